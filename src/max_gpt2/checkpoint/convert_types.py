"""Read a tensor in a type: map it where nothing changes, else convert and transpose it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from max_gpt2.checkpoint.formats import StoredTensor
from max_gpt2.weights.panels import pack_panels
from max_gpt2.weights.quantise import FLOATS, count_nonfinite_blocks, quantise
from max_gpt2.weights.types import Quantised, Weight

#: Rows that are converted at a time, which fit into the CPU cache.
_ROWS = 64
#: Outputs that are quantised at a time.
_OUTPUTS = 512
#: The bits of the exponent, all set in NaN and infinite values.
_EXPONENTS = {FLOATS["F16"]: 0x7C00, FLOATS["BF16"]: 0x7F80}


def read_weight(stored: StoredTensor, type_: str, *, transpose: bool, conv1d: bool) -> tuple[Weight, int]:
    """Return the tensor in a type, in its canonical shape, and the number of values that are NaN or infinite.

    `transpose` if it is stored as [out, in] and `conv1d` for the weight of a linear layer: both are needed, since the
    rows of a quantised weight are always those of [out, in].
    """
    if dtype := FLOATS.get(type_):
        in_place = type_ == stored.dtype and not transpose
        values = stored.read_kept() if in_place and stored.read_kept else stored.read()
        result, finite = as_floats(values, dtype, transpose=transpose)
        return result, 0 if finite else count_nonfinite(result)
    if type_ == stored.dtype and stored.read_blocks:
        rows = stored.read_blocks() if conv1d or not stored.read_kept else stored.read_kept()
    else:
        rows = _quantise(stored.read(), type_, in_out=conv1d and not transpose)
    nonfinite = count_nonfinite_blocks(type_, rows)
    return pack_panels(type_, rows) if conv1d else Quantised(type_, stored.shape, rows), nonfinite


def as_floats(values: np.ndarray, dtype: "np.dtype[Any]", *, transpose: bool) -> tuple[np.ndarray, bool]:
    """Return the values in a dtype, transposed if `transpose`, and whether all of them are finite.

    [rows, columns] of any float -> [rows, columns] or [columns, rows], C-contiguous. An array that needs no change is
    not copied. Strips of rows make the transposed copy of a large matrix nine times as fast as numpy's.
    """
    unchanged = values.dtype == dtype and values.flags.c_contiguous and not transpose
    result = values if unchanged else np.empty(values.shape[::-1] if transpose else values.shape, dtype)
    finite = True
    with np.errstate(all="ignore"):  # converting a signalling NaN, overflow, and summing to infinity would warn
        for part in _strips(values):
            # Mapped values may be unaligned, which is slow.
            strip = (values[part] if values.flags.aligned else values[part].copy()).astype(dtype, copy=False)
            finite = finite and _is_finite(strip)
            if transpose:
                result[:, part] = strip.T
            elif not unchanged:
                result[part] = strip
    return result, finite


def count_nonfinite(values: np.ndarray) -> int:
    """Return the number of values that are NaN or infinite."""
    with np.errstate(invalid="ignore"):  # a signalling NaN in bfloat16
        return sum(int(np.count_nonzero(~np.isfinite(values[part]))) for part in _strips(values))


def _strips(values: np.ndarray) -> Iterator[slice]:
    step = _ROWS if values.ndim > 1 else len(values)
    return (slice(start, start + step) for start in range(0, len(values), step))


def _is_finite(values: np.ndarray) -> bool:
    if exponent := _EXPONENTS.get(values.dtype):  # numpy has no fast operations for these dtypes
        return bool((values.view(np.uint16) & 0x7FFF).max() < exponent)
    return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def _quantise(values: np.ndarray, type_: str, *, in_out: bool) -> np.ndarray:
    """Return the blocks, [out, row_bytes] of uint8, of values [out, in], or [in, out] if `in_out`."""
    by_output = values.T if in_out else values
    parts = (by_output[start : start + _OUTPUTS] for start in range(0, len(by_output), _OUTPUTS))
    with np.errstate(all="ignore"):
        return np.concatenate([quantise(np.ascontiguousarray(part, np.float32), type_) for part in parts])
