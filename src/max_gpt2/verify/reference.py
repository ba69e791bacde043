"""PyTorch's side: `GPT2LMHeadModel` of transformers, in float32 on the CPU."""

from pathlib import Path

import numpy as np

from max_gpt2.errors import MissingExtraError


def quiet_transformers() -> None:
    """Keep transformers from drawing progress bars and from giving advice: what is wrong, max-gpt2 says itself."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


class Reference:
    """A checkpoint in transformers, which loads it in its own way."""

    def __init__(self, folder: Path) -> None:
        """Load the folder; raises MissingExtraError without PyTorch and transformers."""
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtraError(
                f"Comparing needs PyTorch and transformers ({error}). Install them: pip install 'max-gpt2[compare]'"
            ) from error
        quiet_transformers()
        self._model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
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
