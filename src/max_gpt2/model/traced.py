"""The same transformer with all its hidden states as outputs: slower, and only for those who want to look inside."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from max_gpt2.config import GPT2Config
from max_gpt2.model.transformer import Transformer, state_names


class Traced(Module[[Tensor, Tensor], tuple[Tensor, ...]]):
    """The transformer, which tells all."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the transformer."""
        self.transformer = Transformer(config)

    def forward(self, input_ids: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        """Return rows of `wte` and every hidden state.

        [batch, seq] and [rows], int64 -> [rows, n_embd], and [batch, seq, n_embd] for each of `state_names`.
        """
        return self.transformer.wte(rows), *self.transformer.states(input_ids)


@dataclass(frozen=True)
class TracedModel:
    """A model that is ready to show its hidden states, on the CPU in float32."""

    config: GPT2Config
    run: CompiledCallable[[Tensor, Tensor], tuple[Tensor, ...]]

    def states(self, input_ids: np.ndarray) -> dict[str, np.ndarray]:
        """Return the hidden states by the names of `state_names`: [batch, seq] of int64 -> [batch, seq, n_embd] each.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        _, *states = self._outputs(input_ids, np.zeros(1))
        return dict(zip(state_names(self.config.n_layer), states, strict=True))

    def wte(self) -> np.ndarray:
        """Return what the model looks up for every id: [vocab, n_embd]."""
        return self._outputs(np.zeros((1, 1)), np.arange(self.config.vocab_size))[0]

    def _outputs(self, *inputs: np.ndarray) -> list[np.ndarray]:
        buffers = (Buffer.from_numpy(np.ascontiguousarray(one, dtype=np.int64)) for one in inputs)
        return [output.to_numpy() for output in self.run.execute_raw(*buffers)]


def trace_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> TracedModel:
    """Compile the transformer with all its hidden states as outputs; `compile_model`'s terms hold."""
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            model = Traced(config)
        ids = TensorType(DType.int64, ["batch", "seq"], device=CPU())
        rows = TensorType(DType.int64, ["rows"], device=CPU())
        weights = {name: value for name, value in state_dict.items() if name.startswith("transformer.")}
        return TracedModel(config, model.compile(ids, rows, weights=weights))
