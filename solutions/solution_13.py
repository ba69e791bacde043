"""Step 13: the language model, and how to compile and run it."""

from dataclasses import dataclass

import numpy as np
from max.driver import CPU, Buffer, Device
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Linear
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from solutions.pretrained import PretrainedModel, accepts_tensors
from solutions.solution_01 import GPT2Config
from solutions.solution_12 import GPT2Model


class MaxGPT2LMHeadModel(PretrainedModel):
    """GPT-2 with its head, which computes a score ("logit") for every possible next token.

    The parameters have the names of Hugging Face's `GPT2LMHeadModel`: `transformer.h.0.attn.c_attn.weight` and so on.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the model on the CPU in float32; `load_state_dict` provides the weights."""
        with F.lazy(), default_device(CPU()), default_dtype(DType.float32):
            self.transformer = GPT2Model(config)
            self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        self.config = config

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the logits after every token: [batch, seq] of int64 -> [batch, seq, vocab]."""
        return self.lm_head(self.transformer(input_ids))

    def compiled(self) -> "CompiledGPT2":
        """Compile for any batch size and length; this takes about a minute the first time, seconds with MAX's cache."""
        ids = TensorType(DType.int64, ["batch", "seq"], device=self.device)
        with default_device(self.device), default_dtype(DType.float32):
            return CompiledGPT2(self.config, self.compile(ids), self.device)


@dataclass(frozen=True)
class CompiledGPT2:
    """A compiled model that takes and returns numpy arrays; `device` is where it runs."""

    config: GPT2Config
    run: CompiledCallable[[Tensor], Tensor]
    device: Device

    @accepts_tensors
    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] of any integers -> [batch, seq, vocab] of float32."""
        ids = Buffer.from_numpy(np.ascontiguousarray(input_ids, dtype=np.int64))
        (logits,) = self.run.execute_raw(ids.to(self.device))
        return logits.to_numpy()
