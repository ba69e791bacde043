"""The implementations that are compared: this package's graph in MAX, and transformers' model in PyTorch."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from max_gpt2._progress import COMPILING, Runner
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.checkpoint.options import Adapter
from max_gpt2.config import GPT2Config, Kernels
from max_gpt2.errors import MissingExtraError
from max_gpt2.model import CompiledModel, HiddenStates, state_names
from max_gpt2.model.compile_cache import load_hidden_states, load_or_compile
from max_gpt2.weights import Weights

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of one implementation for a prompt of seq tokens.

    Attributes:
        states: The hidden states, each [1, seq, n_embd], by the names of `max_gpt2.model.state_names`.
        logits: [1, seq, vocab].
        continuation: The token ids generated greedily after the prompt.

    """

    states: dict[str, np.ndarray]
    logits: np.ndarray
    continuation: list[int]


@dataclass(frozen=True)
class PromptSetOutputs:
    """The outputs of one implementation: its token embeddings `wte` [vocab, n_embd], and one entry per prompt."""

    wte: np.ndarray
    prompts: list[ModelOutputs]


class Implementation(Protocol):
    """A model to compare: it returns its embeddings, and its outputs for a prompt."""

    def wte(self) -> np.ndarray:
        """Return the token embedding of every id: [vocab, n_embd]."""
        ...

    def compute(self, tokens: list[int], max_new_tokens: int) -> ModelOutputs:
        """Compute hidden states and logits for a prompt, and continue it greedily by `max_new_tokens`."""
        ...


COMPILING_STATES = "Compiling each operation by itself, to read hidden states (takes as long again)"


@dataclass(frozen=True)
class MaxImplementation:
    """A checkpoint in MAX. Its logits come from the same graph that generates text."""

    compiled: CompiledModel
    hidden_states_model: HiddenStates

    @classmethod
    def compile(
        cls, config: GPT2Config, weights: Weights, run: Runner, kernels: Kernels = "mojo"
    ) -> "MaxImplementation":
        """Compile the generation graph and the graph with hidden states."""
        compiled = run(COMPILING, lambda: load_or_compile(config, weights, kernels))
        return cls(compiled, run(COMPILING_STATES, lambda: load_hidden_states(config, weights, kernels)))

    def wte(self) -> np.ndarray:
        """Return the token embedding of every id: [vocab, n_embd]."""
        return self.hidden_states_model.wte()

    def compute(self, tokens: list[int], max_new_tokens: int) -> ModelOutputs:
        """Compute hidden states and logits for a prompt, and continue it greedily."""
        states = {name: state[np.newaxis] for name, state in self.hidden_states_model.hidden_states(tokens).items()}
        return ModelOutputs(states, self.compiled.logits(np.array([tokens])), self._greedy(tokens, max_new_tokens))

    def _greedy(self, tokens: list[int], max_new_tokens: int) -> list[int]:
        session = self.compiled.session(1, len(tokens) + max_new_tokens)
        generated: list[int] = []
        new = tokens
        while len(generated) < max_new_tokens:
            (logits,) = session.extend({0: new})
            new = [int(logits[-1].argmax())]
            generated += new
        return generated


def quiet_transformers() -> None:
    """Silence the progress bars and the advice of transformers; max-gpt2 reports problems itself."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


class TorchImplementation:
    """A checkpoint in transformers' `GPT2LMHeadModel`, in float32 on the CPU: the reference."""

    def __init__(self, checkpoint: Path | Checkpoint) -> None:
        """Let transformers load a folder by itself, or pass it the weights of a format that it cannot read.

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
        # Generation defaults stored in a checkpoint, such as a repetition penalty, would change the greedy output.
        self._model.generation_config = transformers.GenerationConfig()

    def add_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Let PEFT add adapters to the model, without merging them; raises MissingExtraError without PEFT."""
        try:
            from peft import PeftModel
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise MissingExtraError(
                f"Comparing with an adapter needs PEFT ({error}). Install it: pip install peft"
            ) from error
        names = [str(index) for index in range(len(adapters))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice for training
            wrapped = PeftModel.from_pretrained(self._model, adapters[0].path, adapter_name=names[0])
            for name, adapter in zip(names[1:], adapters[1:], strict=True):
                wrapped.load_adapter(adapter.path, adapter_name=name)
        tuner: Any = wrapped.base_model
        tuner.set_adapter(names)
        for module in wrapped.modules():
            if isinstance(module, LoraLayer):
                for name, adapter in zip(names, adapters, strict=True):
                    module.set_scale(name, adapter.scale)
        self._model.eval()

    def logits(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] of int64 -> [batch, seq, vocab] of float32."""
        import torch

        with torch.no_grad():
            return self._model(torch.from_numpy(input_ids)).logits.numpy()

    def wte(self) -> np.ndarray:
        """Return the token embedding of every id: [vocab, n_embd]."""
        import torch

        with torch.no_grad():
            return self._model.transformer.wte(torch.arange(self._model.config.vocab_size)).numpy()

    def compute(self, tokens: list[int], max_new_tokens: int) -> ModelOutputs:
        """Compute hidden states and logits, and continue with transformers' `generate`, ignoring stop tokens."""
        states: dict[str, np.ndarray] = {}
        with self._record_states(states):
            logits = self.logits(np.array([tokens]))
        return ModelOutputs(states, logits, self._greedy(tokens, max_new_tokens) if max_new_tokens else [])

    @contextmanager
    def _record_states(self, states: dict[str, np.ndarray]) -> Iterator[None]:
        """Record the output of each submodule under this package's name for that hidden state."""
        transformer = self._model.transformer

        def record(name: str, _module: object, _inputs: object, output: Any) -> None:
            states[name] = (output[0] if isinstance(output, tuple) else output).numpy()

        with ExitStack() as hooks:
            for name in state_names(self._model.config.n_layer):
                # Dropout does nothing in eval mode; its output is the sum of the two embeddings.
                module = transformer.get_submodule("drop" if name == "embeddings" else name)
                hooks.callback(module.register_forward_hook(partial(record, name)).remove)
            yield

    def _greedy(self, tokens: list[int], max_new_tokens: int) -> list[int]:
        import torch
        from transformers import GenerationConfig

        greedy = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=None, pad_token_id=0)
        ids = torch.tensor([tokens])
        rows = self._model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
        return rows[0, len(tokens) :].tolist()


def _model_with(checkpoint: Checkpoint) -> "GPT2LMHeadModel":
    """Return transformers' model with the weights that max-gpt2 loaded."""
    import torch
    import transformers

    other = ("bos_token_id", "eos_token_ids", "tie_word_embeddings")
    names = [field.name for field in fields(GPT2Config) if field.name not in other]
    values = {name: getattr(checkpoint.config, name) for name in names}
    config = transformers.GPT2Config(**values, tie_word_embeddings=checkpoint.plan.tied)
    model = transformers.GPT2LMHeadModel(config)
    tensors = {name: torch.from_numpy(value) for name, value in checkpoint.state_dict.items()}
    model.load_state_dict(tensors, strict=True)
    return model.eval()
