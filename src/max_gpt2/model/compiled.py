"""Compile the model, and call it with numpy arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from max_gpt2.config import GPT2Config
from max_gpt2.model.transformer import LanguageModel


@dataclass(frozen=True)
class CompiledModel:
    """A model that is ready to run on the CPU in float32. It keeps no state between calls."""

    config: GPT2Config
    run: CompiledCallable[[Tensor, Tensor], Tensor]

    def logits(self, input_ids: np.ndarray, first: int = 0) -> np.ndarray:
        """Return the logits from position `first` on: [batch, seq] of int64 -> [batch, seq - first, vocab] float32.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        ids = np.ascontiguousarray(input_ids, dtype=np.int64)
        (logits,) = self.run.execute_raw(Buffer.from_numpy(ids), Buffer.from_numpy(np.array(first, dtype=np.int64)))
        return logits.to_numpy()


def compile_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> CompiledModel:
    """Compile for every batch and length at once. The first time takes about a minute, later MAX's cache answers.

    `state_dict` is canonical (`max_gpt2.checkpoint`); its arrays are used in place, not copied.
    """
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            model = LanguageModel(config)
        ids = TensorType(DType.int64, ["batch", "seq"], device=CPU())
        first = TensorType(DType.int64, [], device=CPU())
        return CompiledModel(config, model.compile(ids, first, weights=state_dict))
