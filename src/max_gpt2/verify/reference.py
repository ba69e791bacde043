"""PyTorch's side: `GPT2LMHeadModel` of transformers, in float32 on the CPU."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.checkpoint.layout import is_conv1d
from max_gpt2.config import GPT2Config
from max_gpt2.errors import MissingExtraError

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def quiet_transformers() -> None:
    """Keep transformers from drawing progress bars and from giving advice: what is wrong, max-gpt2 says itself."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


class Reference:
    """A checkpoint in transformers' model."""

    def __init__(self, checkpoint: Path | Checkpoint) -> None:
        """Let transformers load a folder in its own way, or hand it the weights of a format that it does not read.

        Raises MissingExtraError without PyTorch and transformers.
        """
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtraError(
                f"Comparing needs PyTorch and transformers ({error}). Install them: pip install 'max-gpt2[compare]'"
            ) from error
        quiet_transformers()
        if isinstance(checkpoint, Path):
            self._model = transformers.GPT2LMHeadModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
        else:
            self._model = _model_with(checkpoint)
        # A checkpoint's own settings, such as a repetition penalty, would go on acting where ours are silent.
        self._model.generation_config = transformers.GenerationConfig()

    def logits(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] of int64 -> [batch, seq, vocab] of float32."""
        import torch

        with torch.no_grad():
            return self._model(torch.from_numpy(input_ids)).logits.numpy()

    def greedy(self, tokens: list[int], max_new_tokens: int) -> list[int]:
        """Return the likeliest continuation as transformers' `generate` writes it; nothing ends it early."""
        import torch
        from transformers import GenerationConfig

        greedily = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=None, pad_token_id=0)
        ids = torch.tensor([tokens])
        rows = self._model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedily)
        return rows[0, len(tokens) :].tolist()


def _model_with(checkpoint: Checkpoint) -> "GPT2LMHeadModel":
    """Return transformers' model with the weights that max-gpt2 read, [in, out] again where it wants them so."""
    import torch
    import transformers

    names = [field.name for field in fields(GPT2Config) if field.name not in ("eos_token_ids", "tie_word_embeddings")]
    values = {name: getattr(checkpoint.config, name) for name in names}
    config = transformers.GPT2Config(**values, tie_word_embeddings=checkpoint.plan.tied)
    model = transformers.GPT2LMHeadModel(config)
    weights = {
        name: torch.from_numpy(value.T.copy() if is_conv1d(name) else value)
        for name, value in checkpoint.state_dict.items()
    }
    model.load_state_dict(weights, strict=True)
    return model.eval()
