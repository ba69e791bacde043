"""Build the graphs of MAX's own operations, `--kernels builtin`, and compile them for the CPU in float32."""

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
from max_gpt2.model.batch import cache_types, int64_type, token_types
from max_gpt2.model.ops_max import mask_type
from max_gpt2.model.session import HiddenStatesModel
from max_gpt2.model.transformer import HiddenStates, LanguageModel


def compile_builtin(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> CompiledCallable[..., Tensor]:
    """Compile the graph of `CompiledModel`: the arrays of `RaggedBatch`, `KVCache.buffers` and the mask to logits."""
    types = [*token_types(), int64_type("rows"), *cache_types(config), mask_type()]
    return compile_for_cpu(lambda: LanguageModel(config), types, state_dict)


def compile_hidden_states(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> HiddenStatesModel:
    """Compile a model that returns all hidden states; `state_dict` is used in place."""
    weights = {name: value for name, value in state_dict.items() if name.startswith("transformer.")}
    types = [int64_type("embeddings"), *token_types(), *cache_types(config), mask_type()]
    graph = compile_for_cpu(lambda: HiddenStates(config), types, weights)
    return HiddenStatesModel(config, graph.execute_raw)


def compile_for_cpu(
    make: Callable[[], Module[..., Any]], types: list[Any], weights: Mapping[str, np.ndarray]
) -> CompiledCallable[..., Any]:
    """Compile a module for the CPU in float32; its weights are used in place."""
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            module = make()
        return module.compile(*types, weights=weights)
