"""Step 13: the language model, and how to run it."""

from dataclasses import dataclass

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Linear, Module
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from steps.step_01 import GPT2Config
from steps.step_12 import GPT2Model


class MaxGPT2LMHeadModel(Module[[Tensor], Tensor]):
    """GPT-2 with its head: a score ("logit") for every token of the vocabulary to come next.

    Its parameters have the names of Hugging Face's `GPT2LMHeadModel`: `transformer.h.0.attn.c_attn.weight` and so on.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Make the model on the CPU in float32, with no weights yet: `load_state_dict` brings them."""
        # TODO: replace the line below; `make hint STEP=13` helps.
        raise NotImplementedError("MaxGPT2LMHeadModel.__init__")

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the logits after every token: [batch, seq] of int64 -> [batch, seq, vocab]."""
        # TODO: replace the line below; `make hint STEP=13` helps.
        raise NotImplementedError("MaxGPT2LMHeadModel.forward")

    def compiled(self) -> "CompiledGPT2":
        """Compile once for every batch and length; the first time takes about a minute, later MAX's cache answers."""
        # TODO: replace the line below; `make hint STEP=13` helps.
        raise NotImplementedError("MaxGPT2LMHeadModel.compiled")


@dataclass(frozen=True)
class CompiledGPT2:
    """A compiled model, which takes and gives numpy arrays."""

    config: GPT2Config
    run: CompiledCallable[[Tensor], Tensor]

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] of int64 -> [batch, seq, vocab] of float32."""
        # TODO: replace the line below; `make hint STEP=13` helps.
        raise NotImplementedError("CompiledGPT2.__call__")
