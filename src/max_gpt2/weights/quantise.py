"""Convert weights between types: quantise with the `gguf` package, and compute the float32 values of any type."""

from typing import Any

import ml_dtypes
import numpy as np

from max_gpt2.weights.panels import as_blocks, block_bytes, block_length, unpack_panels
from max_gpt2.weights.types import TYPES, Weight, Weights

#: The types that are arrays of numbers, with their dtypes.
FLOATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
#: The types that `quantise` produces. The `gguf` package reads K-quants, and does not produce them.
MAKEABLE = tuple(name for name in TYPES if not name.endswith("_K"))
#: The types that llama.cpp uses for rows that are not a multiple of a type's block, in the order it tries them.
_FALLBACKS = {"Q4_K": ("Q5_0", "F16"), "Q5_K": ("Q5_1", "F16"), "Q6_K": ("Q8_0", "F16")}


def type_of(weight: Weight) -> str:
    """Return the type of a weight, one of `TYPES`."""
    if isinstance(weight, np.ndarray):
        return next(name for name, dtype in FLOATS.items() if dtype == weight.dtype)
    return weight.type


def type_size(type_: str) -> int:
    """Return the bytes of a block in a GGUF file, or of a number of a floating-point type."""
    return FLOATS[type_].itemsize if type_ in FLOATS else block_bytes(type_)


def weight_bytes(weight: Weight) -> int:
    """Return the bytes of a weight in memory."""
    return (weight if isinstance(weight, np.ndarray) else weight.data).nbytes


def fitting_type(type_: str, row_length: int) -> str:
    """Return the type, or the one that llama.cpp uses instead when a row is not a multiple of the type's block."""
    return next(name for name in (type_, *_FALLBACKS.get(type_, ("F16",))) if row_length % block_length(name) == 0)


def quantise(values: np.ndarray, type_: str) -> np.ndarray:
    """Convert rows of GGUF, [rows, row_length] of float32, to a type of `MAKEABLE`.

    Return the values in the type's dtype, or the blocks of a quantised type, [rows, row_bytes] of uint8. Values that
    overflow become infinite, also as the scale of a block.
    """
    import gguf

    with np.errstate(all="ignore"):
        if dtype := FLOATS.get(type_):
            return values.astype(dtype)
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType[type_])


def dequantise(rows: np.ndarray, type_: str) -> np.ndarray:
    """Return the float32 values, [rows, row_length], of the blocks of any type of GGUF, [rows, row_bytes] of uint8."""
    import gguf

    with np.errstate(all="ignore"):  # NaN and infinite scales are reported when the weights are checked
        return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[type_])


def count_nonfinite_blocks(type_: str, rows: np.ndarray) -> int:
    """Return the number of values in blocks, [rows, row_bytes] of uint8, whose scale or minimum is NaN or infinite."""
    blocks = as_blocks(type_, rows)
    finite = np.ones(blocks.shape, bool)
    for name in {"d", "m", "dmin"} & set(blocks.dtype.names or ()):
        finite &= np.isfinite(blocks[name])
    return int(np.count_nonzero(~finite)) * block_length(type_)


def float32(weight: Weight) -> np.ndarray:
    """Return the values of a weight in its canonical shape, in float32; an array of float32 is not copied."""
    if isinstance(weight, np.ndarray):
        with np.errstate(all="ignore"):  # converting a signalling NaN would warn
            return weight.astype(np.float32, copy=False)
    return unpack_panels(weight) if weight.data.ndim == 1 else dequantise(weight.data, weight.type)


def float32_weights(weights: Weights) -> dict[str, np.ndarray]:
    """Return the float32 values of all weights; a tied head stays the same array as the embedding."""
    values: dict[int, np.ndarray] = {}
    for weight in weights.values():
        if id(weight) not in values:
            values[id(weight)] = float32(weight)
    return {name: values[id(weight)] for name, weight in weights.items()}
