"""Make graphs of modules and compile them. The first time takes a while, later MAX's cache answers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from max.driver import CPU
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype

from max_gpt2.config import GPT2Config
from max_gpt2.model.compiled import CompiledModel
from max_gpt2.model.feed import Kernels
from max_gpt2.model.graph_types import blocks_type, cache_types, ids_type, paged_token_types, token_types
from max_gpt2.model.mojo_operations import PagedOperations
from max_gpt2.model.operations import Operations, operations
from max_gpt2.model.transformer import LanguageModel


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
