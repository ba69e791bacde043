"""Compile the model, and call it with numpy arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from max.driver import CPU
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from max_gpt2.config import GPT2Config
from max_gpt2.model.cache import cache_types
from max_gpt2.model.operations import Kernels, Operations, operations
from max_gpt2.model.session import Session
from max_gpt2.model.transformer import LanguageModel


@dataclass(frozen=True)
class CompiledModel:
    """A model that is ready to run on the CPU in float32. It keeps no state: that is in its sessions."""

    config: GPT2Config
    operations: Operations
    run: CompiledCallable[..., Tensor]

    def logits(self, input_ids: np.ndarray, first: int = 0) -> np.ndarray:
        """Return the logits from position `first` on: [batch, seq] of int64 -> [batch, seq - first, vocab] float32.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        batch, seq = input_ids.shape
        rows = self.session(batch, seq).extend(dict(enumerate(input_ids.tolist())), keep=seq - first)
        return np.stack(rows)

    def session(self, slots: int, room: int) -> Session:
        """Return a place for as many texts of at most `room` tokens, at most `n_positions`."""
        return Session(self.config, self.operations, self.run, slots, room)


def compile_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels = "mojo") -> CompiledModel:
    """Compile for any number of texts of any length. The first time takes a while, later MAX's cache answers.

    `state_dict` is canonical (`max_gpt2.checkpoint`); its arrays are used in place, not copied.
    """
    chosen = operations(kernels)
    types = [*token_types(), ids_type("kept"), *cache_types(config), *chosen.extra_types]
    run = compile_for_cpu(lambda: LanguageModel(config, chosen), types, state_dict, chosen)
    return CompiledModel(config, chosen, run)


def token_types() -> list[TensorType]:
    """Return the types of the arrays of `NewTokens`, without the last."""
    return [ids_type("tokens"), ids_type("tokens"), ids_type("offsets"), ids_type("texts"), ids_type("texts")]


def ids_type(dimension: str) -> TensorType:
    """Return the type of a list of numbers."""
    return TensorType(DType.int64, [dimension], device=CPU())


def compile_for_cpu(
    make: Callable[[], Module[..., Any]], types: list[Any], weights: Mapping[str, np.ndarray], chosen: Operations
) -> CompiledCallable[..., Any]:
    """Compile a module for the CPU in float32, its weights used in place."""
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            module = make()
        return module.compile(*types, weights=weights, custom_extensions=chosen.extensions)
