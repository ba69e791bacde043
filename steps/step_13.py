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
from steps.step_01 import GPT2Config
from steps.step_12 import GPT2Model


class MaxGPT2LMHeadModel(PretrainedModel):
    """GPT-2 with its head, which computes a score ("logit") for every possible next token.

    The parameters have the names of Hugging Face's `GPT2LMHeadModel`: `transformer.h.0.attn.c_attn.weight` and so on.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the model on the CPU in float32; `load_state_dict` provides the weights."""
        # TODO: replace the line below.
        raise NotImplementedError("MaxGPT2LMHeadModel.__init__")

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the logits after every token: [batch, seq] of int64 -> [batch, seq, vocab]."""
        # TODO: replace the line below.
        raise NotImplementedError("MaxGPT2LMHeadModel.forward")

    def compiled(self) -> "CompiledGPT2":
        """Compile for any batch size and length; this takes about a minute the first time, seconds with MAX's cache."""
        # TODO: replace the line below.
        raise NotImplementedError("MaxGPT2LMHeadModel.compiled")


@dataclass(frozen=True)
class CompiledGPT2:
    """A compiled model that takes and returns numpy arrays; `device` is where it runs."""

    config: GPT2Config
    run: CompiledCallable[[Tensor], Tensor]
    device: Device

    @accepts_tensors
    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] of any integers -> [batch, seq, vocab] of float32."""
        # TODO: replace the line below.
        raise NotImplementedError("CompiledGPT2.__call__")
