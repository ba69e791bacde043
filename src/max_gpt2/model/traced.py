"""The same transformer with all its hidden states as outputs: slower, and only for those who want to look inside."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import TensorType

from max_gpt2.config import GPT2Config
from max_gpt2.model.compiled import IDS, compile_for_cpu, mask_type
from max_gpt2.model.inputs import causal_mask, positions
from max_gpt2.model.transformer import Transformer, state_names


class Traced(Module[..., tuple[Tensor, ...]]):
    """The transformer, which tells all."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the transformer."""
        self.transformer = Transformer(config)

    def forward(self, rows: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return rows of `wte` and every hidden state.

        [rows] of int64, and what `Transformer.states` wants -> [rows, n_embd], and [batch, seq, n_embd] for each of
        `state_names`.
        """
        return self.transformer.wte(rows), *self.transformer.states(*inputs)


@dataclass(frozen=True)
class TracedModel:
    """A model that is ready to show its hidden states, on the CPU in float32."""

    config: GPT2Config
    run: CompiledCallable[..., tuple[Tensor, ...]]

    def states(self, input_ids: np.ndarray) -> dict[str, np.ndarray]:
        """Return the hidden states by the names of `state_names`: [batch, seq] of int64 -> [batch, seq, n_embd] each.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        _, *states = self._outputs(np.zeros(1, dtype=np.int64), input_ids)
        return dict(zip(state_names(self.config.n_layer), states, strict=True))

    def wte(self) -> np.ndarray:
        """Return what the model looks up for every id: [vocab, n_embd]."""
        return self._outputs(np.arange(self.config.vocab_size), np.zeros((1, 1)))[0]

    def _outputs(self, rows: np.ndarray, input_ids: np.ndarray) -> list[np.ndarray]:
        batch, seq = input_ids.shape
        ids = np.ascontiguousarray(input_ids, dtype=np.int64)
        inputs = (rows, ids, positions(batch, 0, seq), causal_mask(batch, 0, seq))
        return [output.to_numpy() for output in self.run.execute_raw(*map(Buffer.from_numpy, inputs))]


def trace_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> TracedModel:
    """Compile the transformer with all its hidden states as outputs; `compile_model`'s terms hold."""
    weights = {name: value for name, value in state_dict.items() if name.startswith("transformer.")}
    rows = TensorType(DType.int64, ["rows"], device=CPU())
    return TracedModel(config, compile_for_cpu(lambda: Traced(config), [rows, IDS, IDS, mask_type("seq")], weights))
