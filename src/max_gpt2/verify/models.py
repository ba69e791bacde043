"""PyTorch's side: `GPT2LMHeadModel` of transformers, in float32 on the CPU."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from max_gpt2._progress import COMPILING, Runner
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.config import GPT2Config
from max_gpt2.errors import MissingExtraError
from max_gpt2.model import CompiledModel, Kernels, state_names
from max_gpt2.model.compile import TracedModel, trace_model
from max_gpt2.model.compile_cache import ready_model
from max_gpt2.tokenizer import GPT2Tokenizer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class Answer:
    """What one side computes for a prompt of seq tokens.

    `states` are the hidden states by the names of `max_gpt2.model.state_names`, each [1, seq, n_embd]; `logits` are
    [1, seq, vocab]; `continuation` is what it writes greedily after the prompt.
    """

    states: dict[str, np.ndarray]
    logits: np.ndarray
    continuation: list[int]


@dataclass(frozen=True)
class Answers:
    """What one side computes: its rows of `wte` [vocab, n_embd], and an answer to each prompt."""

    wte: np.ndarray
    prompts: list[Answer]


class Side(Protocol):
    """A model that can be asked."""

    def wte(self) -> np.ndarray:
        """Return what is looked up for every id: [vocab, n_embd]."""
        ...

    def answer(self, tokens: list[int], max_new_tokens: int) -> Answer:
        """Compute everything for a prompt and continue it greedily by `max_new_tokens`."""
        ...


SENTENCE = "It was the best of times, it was the worst of times, and nobody could tell which."
EMOJI = "Good morning 🌍! Ça va? 你好, мир… 🙂🙃"


@dataclass(frozen=True)
class Prompt:
    """A prompt and its ids, at most `n_positions` of them."""

    name: str
    tokens: list[int]


def make_prompts(tokenizer: GPT2Tokenizer, n_positions: int, vocab_size: int) -> list[Prompt]:
    """Return four prompts: one token, a sentence, one with emoji, and one that fills the context.

    The last goes on with ids from everywhere in the vocabulary, so that it looks at many rows of `wte`.
    """
    sentence, emoji = tokenizer.encode(SENTENCE), tokenizer.encode(EMOJI)
    everywhere = [vocab_size * step // n_positions for step in range(n_positions)]
    everything = {
        "one token": sentence[:1],
        "a sentence": sentence,
        "with emoji": emoji,
        "the full context": sentence + emoji + everywhere,
    }
    return [Prompt(name, ids[:n_positions]) for name, ids in everything.items()]


LOOKING_INSIDE = "Compiling once more, with the hidden states as outputs (as long again)"


@dataclass(frozen=True)
class MaxSide:
    """A checkpoint in MAX. The logits are those of the very graph that writes texts."""

    compiled: CompiledModel
    traced: TracedModel

    @classmethod
    def compile(
        cls, config: GPT2Config, state_dict: Mapping[str, np.ndarray], run: Runner, kernels: Kernels = "mojo"
    ) -> "MaxSide":
        """Compile both."""
        compiled = run(COMPILING, lambda: ready_model(config, state_dict, kernels))
        return cls(compiled, run(LOOKING_INSIDE, lambda: trace_model(config, state_dict, kernels)))

    def wte(self) -> np.ndarray:
        """Return what is looked up for every id: [vocab, n_embd]."""
        return self.traced.wte()

    def answer(self, tokens: list[int], max_new_tokens: int) -> Answer:
        """Compute everything for a prompt and continue it greedily."""
        states = {name: state[np.newaxis] for name, state in self.traced.states(tokens).items()}
        return Answer(states, self.compiled.logits(np.array([tokens])), self._greedy(tokens, max_new_tokens))

    def _greedy(self, tokens: list[int], max_new_tokens: int) -> list[int]:
        session = self.compiled.session(1, len(tokens) + max_new_tokens)
        written: list[int] = []
        new = tokens
        while len(written) < max_new_tokens:
            (logits,) = session.extend({0: new})
            new = [int(logits[-1].argmax())]
            written += new
        return written


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

    def wte(self) -> np.ndarray:
        """Return what is looked up for every id: [vocab, n_embd]."""
        import torch

        with torch.no_grad():
            return self._model.transformer.wte(torch.arange(self._model.config.vocab_size)).numpy()

    def answer(self, tokens: list[int], max_new_tokens: int) -> Answer:
        """Compute everything for a prompt, and continue it as transformers' `generate` does; nothing ends it early."""
        states: dict[str, np.ndarray] = {}
        with self._recording(states):
            logits = self.logits(np.array([tokens]))
        return Answer(states, logits, self._greedy(tokens, max_new_tokens) if max_new_tokens else [])

    @contextmanager
    def _recording(self, states: dict[str, np.ndarray]) -> Iterator[None]:
        """Keep what each part of the model puts out, by our names of the hidden states."""
        transformer = self._model.transformer

        def keep(name: str, _module: object, _inputs: object, output: Any) -> None:
            states[name] = (output[0] if isinstance(output, tuple) else output).numpy()

        with ExitStack() as hooks:
            for name in state_names(self._model.config.n_layer):
                # Dropout does nothing in eval mode; its output is the sum of the two embeddings.
                module = transformer.get_submodule("drop" if name == "embeddings" else name)
                hooks.callback(module.register_forward_hook(partial(keep, name)).remove)
            yield

    def _greedy(self, tokens: list[int], max_new_tokens: int) -> list[int]:
        import torch
        from transformers import GenerationConfig

        greedily = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=None, pad_token_id=0)
        ids = torch.tensor([tokens])
        rows = self._model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedily)
        return rows[0, len(tokens) :].tolist()


def _model_with(checkpoint: Checkpoint) -> "GPT2LMHeadModel":
    """Return transformers' model with the weights that max-gpt2 read."""
    import torch
    import transformers

    names = [field.name for field in fields(GPT2Config) if field.name not in ("eos_token_ids", "tie_word_embeddings")]
    values = {name: getattr(checkpoint.config, name) for name in names}
    config = transformers.GPT2Config(**values, tie_word_embeddings=checkpoint.plan.tied)
    model = transformers.GPT2LMHeadModel(config)
    tensors = {name: torch.from_numpy(value) for name, value in checkpoint.state_dict.items()}
    model.load_state_dict(tensors, strict=True)
    return model.eval()
