"""The same transformer with all its hidden states as outputs: slower, and only for those who want to look inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from max.driver import Buffer
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from max_gpt2.config import GPT2Config
from max_gpt2.model.cache import Cache
from max_gpt2.model.compiling import compile_for_cpu
from max_gpt2.model.feed import FEEDS, Kernels
from max_gpt2.model.graph_types import cache_types, ids_type, token_types
from max_gpt2.model.inputs import new_tokens
from max_gpt2.model.names import state_names
from max_gpt2.model.operations import Operations, operations
from max_gpt2.model.transformer import Transformer


class Traced(Module[..., tuple[Tensor, ...]]):
    """The transformer, which tells all."""

    def __init__(self, config: GPT2Config, operations: Operations) -> None:
        """Make the transformer."""
        self.transformer = Transformer(config, operations)

    def forward(self, rows: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return rows of `wte` and every hidden state.

        [rows] of int64, and what `Transformer.states` wants -> [rows, n_embd], and [tokens, n_embd] for each of
        `state_names`.
        """
        return F.gather(self.transformer.wte(), rows, axis=0), *self.transformer.states(*inputs)


@dataclass(frozen=True)
class TracedModel:
    """A model that is ready to show its hidden states, on the CPU in float32."""

    config: GPT2Config
    kernels: Kernels
    run: CompiledCallable[..., tuple[Tensor, ...]]

    def states(self, tokens: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the hidden states of a text by the names of `state_names`: [seq, n_embd] each.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        _, *states = self._outputs(np.zeros(1, dtype=np.int64), tokens)
        return dict(zip(state_names(self.config.n_layer), states, strict=True))

    def wte(self) -> np.ndarray:
        """Return what the model looks up for every id: [vocab, n_embd]."""
        return self._outputs(np.arange(self.config.vocab_size), [0])[0]

    def _outputs(self, rows: np.ndarray, tokens: Sequence[int]) -> list[np.ndarray]:
        *new, _ = (text := new_tokens({0: tokens}, np.zeros(1, dtype=np.int64), keep=1)).arrays
        before, after = (
            [Buffer.from_numpy(one) for one in some] for some in ([rows, *new], FEEDS[self.kernels].extra(text))
        )
        cache = Cache(self.config, 1, len(tokens))
        return [output.to_numpy() for output in self.run.execute_raw(*before, *cache.buffers, *after)]


def trace_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels = "mojo") -> TracedModel:
    """Compile the transformer with all its hidden states as outputs; `compile_model`'s terms hold."""
    chosen = operations(kernels)
    weights = {name: value for name, value in state_dict.items() if name.startswith("transformer.")}
    types = [ids_type("rows"), *token_types(), *cache_types(config), *chosen.extra_types]
    return TracedModel(config, kernels, compile_for_cpu(lambda: Traced(config, chosen), types, weights, chosen))
