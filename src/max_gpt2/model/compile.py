"""The same transformer with all its hidden states as outputs: slower, and only for those who want to look inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype

from max_gpt2.config import GPT2Config
from max_gpt2.model.batch import (
    FEEDS,
    Kernels,
    blocks_type,
    cache_types,
    ids_type,
    new_tokens,
    paged_token_types,
    token_types,
)
from max_gpt2.model.kv_cache import Cache
from max_gpt2.model.ops import Operations, operations
from max_gpt2.model.ops_mojo import PagedOperations
from max_gpt2.model.session import CompiledModel
from max_gpt2.model.transformer import LanguageModel, Transformer

#: What a block puts out: its four parts, named as they are, and the block itself, which has no suffix.
BLOCK_STATES = (".ln_1", ".attn", ".ln_2", ".mlp", "")


def state_names(n_layer: int) -> list[str]:
    """Return the names of all hidden states: "embeddings", "h.0.ln_1", ..., "h.0" (the block's output), ..., "ln_f"."""
    blocks = [f"h.{layer}{part}" for layer in range(n_layer) for part in BLOCK_STATES]
    return ["embeddings", *blocks, "ln_f"]


def compile_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels = "mojo") -> CompiledModel:
    """Compile for any number of texts of any length.

    `state_dict` is canonical (`max_gpt2.checkpoint`); its arrays are used in place, not copied.
    """
    return CompiledModel(config, kernels, compile_graph(config, state_dict, kernels).execute_raw, state_dict)


def compile_graph(
    config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels
) -> CompiledCallable[..., Tensor]:
    """Return what `compile_model` runs."""
    chosen = operations(kernels)
    types = [*token_types(), ids_type("kept"), *cache_types(config), *chosen.extra_types]
    return compile_for_cpu(lambda: LanguageModel(config, chosen), types, state_dict, chosen)


def compile_paged(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> CompiledCallable[..., Tensor]:
    """Compile for a server, whose cache is in pages: `max_gpt2.serve` has what runs it; the terms are the same.

    It takes the arrays of `NewTokens`, with `table` [texts, pages] in the place of the slots, and the blocks of pages.
    """
    chosen = PagedOperations()
    types = [*paged_token_types(), ids_type("kept"), blocks_type(config)]
    return compile_for_cpu(lambda: LanguageModel(config, chosen), types, state_dict, chosen)


def compile_for_cpu(
    make: Callable[[], Module[..., Any]], types: list[Any], weights: Mapping[str, np.ndarray], chosen: Operations
) -> CompiledCallable[..., Any]:
    """Compile a module for the CPU in float32, its weights used in place."""
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            module = make()
        return module.compile(*types, weights=weights, custom_extensions=chosen.extensions)


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
