"""Compile the model, and call it with numpy arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import BufferType, DeviceRef, TensorType

from max_gpt2.config import GPT2Config
from max_gpt2.model.inputs import causal_mask, positions
from max_gpt2.model.transformer import LanguageModel

IDS = TensorType(DType.int64, ["batch", "seq"], device=CPU())
_NUMBER = TensorType(DType.int64, [], device=CPU())


def mask_type(total: str) -> TensorType:
    """Return the type of an attention mask for `total` tokens, a dimension's name."""
    return TensorType(DType.float32, ["batch", 1, "seq", total], device=CPU())


@dataclass(frozen=True)
class CompiledModel:
    """A model that is ready to run on the CPU in float32. It keeps no state: that is in its sessions."""

    config: GPT2Config
    run: CompiledCallable[..., Tensor]

    def logits(self, input_ids: np.ndarray, first: int = 0) -> np.ndarray:
        """Return the logits from position `first` on: [batch, seq] of int64 -> [batch, seq - first, vocab] float32.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        batch, seq = input_ids.shape
        return self.session(batch, seq).extend(input_ids, first)

    def session(self, batch: int, room: int) -> "Session":
        """Return a place for as many texts of at most `room` tokens, at most `n_positions`."""
        shape = (batch, room, self.config.n_head, self.config.head_dim)
        buffers = [Buffer.from_numpy(np.zeros(shape, np.float32)) for _ in range(2 * self.config.n_layer)]
        return Session(self, batch, buffers)


class Session:
    """Texts that are being written: the keys and values of their tokens, each of which is computed once."""

    def __init__(self, model: CompiledModel, batch: int, buffers: list[Buffer]) -> None:
        """Start with no tokens; `CompiledModel.session` makes one."""
        self.length = 0
        self._model = model
        self._batch = batch
        self._buffers = buffers

    def extend(self, input_ids: np.ndarray, first: int = 0) -> np.ndarray:
        """Add tokens to the texts and return the logits after those from `first` on.

        [batch, seq] of int64 -> [batch, seq - first, vocab] float32. The session's room is not checked.
        """
        seq = input_ids.shape[1]
        inputs = (
            np.ascontiguousarray(input_ids, dtype=np.int64),
            positions(self._batch, self.length, seq),
            causal_mask(self._batch, self.length, seq),
            np.array(first, dtype=np.int64),
            np.array(self.length, dtype=np.int64),
        )
        (logits,) = self._model.run.execute_raw(*map(Buffer.from_numpy, inputs), *self._buffers)
        self.length += seq
        return logits.to_numpy()


def compile_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> CompiledModel:
    """Compile for every batch and length at once. The first time takes about a minute, later MAX's cache answers.

    `state_dict` is canonical (`max_gpt2.checkpoint`); its arrays are used in place, not copied.
    """
    layer = BufferType(DType.float32, ["batch", "room", config.n_head, config.head_dim], device=DeviceRef.CPU())
    types = [IDS, IDS, mask_type("total"), _NUMBER, _NUMBER, *[layer] * (2 * config.n_layer)]
    return CompiledModel(config, compile_for_cpu(lambda: LanguageModel(config), types, state_dict))


def compile_for_cpu(
    make: Callable[[], Module[..., Any]], types: list[Any], weights: Mapping[str, np.ndarray]
) -> CompiledCallable[..., Any]:
    """Compile a module for the CPU in float32, its weights used in place."""
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            module = make()
        return module.compile(*types, weights=weights)
