"""The types of weights, under the names of GGUF, and the canonical names of the matrices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: The types that the kernels compute with. The index of a type is its number in `kernels/weights.mojo`.
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
#: The types by their numbers in GGUF files.
NUMBERS = dict(zip((0, 1, 30, 8, 2, 3, 6, 7, 12, 13, 14), TYPES, strict=True))

#: The values of the option `weights`: "auto" keeps the types of the file.
WeightsOption = Literal[
    "auto", "float32", "float16", "bfloat16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0"
]
#: The type of each value of the option.
OPTION_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"} | {name.lower(): name for name in TYPES[3:]}
DEFAULT_WEIGHTS: WeightsOption = "auto"

#: The canonical names of the matrices are those of Hugging Face's `GPT2LMHeadModel`.
WTE = "transformer.wte.weight"
WPE = "transformer.wpe.weight"
LM_HEAD = "lm_head.weight"
#: The weights of the four Conv1D layers of each block, [in, out]. `attn.c_proj` is square, so its shape does not show
#: whether it is transposed.
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")

#: Columns of a panel, the unit in which the kernels read a quantised weight: see `kernels/weights.mojo`.
PANEL = 32


@dataclass(frozen=True)
class Quantised:
    """A quantised matrix as the kernels read it.

    Attributes:
        type: One of `TYPES`, such as "Q8_0".
        shape: The canonical shape of the matrix.
        data: The blocks of each row as in GGUF, [rows, row_bytes] of uint8, if it is an embedding; the panels of
            `kernels/weights.mojo`, [bytes] of uint8, if it is the weight of a linear layer.

    """

    type: str
    shape: tuple[int, ...]
    data: np.ndarray


#: A matrix or vector: an array of float32, float16 or bfloat16 in its canonical shape, or a quantised matrix.
Weight = np.ndarray | Quantised
#: The weights of a model by canonical name.
Weights = Mapping[str, Weight]
