"""Going over large arrays in strips of rows, which stay in the processor's cache and need no second array."""

from collections.abc import Iterator

import numpy as np

_ROWS = 64


def _strips(values: np.ndarray) -> Iterator[slice]:
    step = _ROWS if values.ndim > 1 else len(values)
    return (slice(start, start + step) for start in range(0, len(values), step))


def as_float32(values: np.ndarray, *, turn: bool) -> tuple[np.ndarray, bool]:
    """Return the values in float32, with a matrix's axes exchanged if `turn`, and whether all of them are finite.

    [rows, columns] of any float -> [rows, columns] or [columns, rows], C-contiguous. What needs no change is not
    copied. Numpy's own copy of a large transposed matrix takes nine times as long as this one.
    """
    kept = values.dtype == np.float32 and values.flags.c_contiguous and not turn
    result = values if kept else np.empty(values.shape[::-1] if turn else values.shape, np.float32)
    finite = True
    with np.errstate(all="ignore"):  # a NaN that is made float32 may change its bits, and a sum may be infinite
        for part in _strips(values):
            strip = values[part].copy().astype(np.float32, copy=False)  # mapped values may be unaligned, and so slow
            finite = finite and bool(np.isfinite(strip.sum()) or np.isfinite(strip).all())
            if turn:
                result[:, part] = strip.T
            elif not kept:
                result[part] = strip
    return result, finite


def count_nonfinite(values: np.ndarray) -> int:
    """Return how many values are NaN or infinite."""
    with np.errstate(invalid="ignore"):  # a signalling NaN in bfloat16
        return sum(int(np.count_nonzero(~np.isfinite(values[part]))) for part in _strips(values))


