"""Copy mapped weights into the memory of the process."""

from dataclasses import replace
from mmap import mmap

import numpy as np

from max_gpt2.weights.types import Quantised, Weight, Weights

#: Bytes of a cache line.
_LINE = 64


def copy_mapped(weights: Weights) -> dict[str, Weight]:
    """Return the weights with a copy of every array that is mapped from a file, all in one block of memory.

    On Linux, numpy asks for huge pages for a large block, which a processor reads faster than the pages of a file: it
    has to translate fewer addresses. Copying takes as long as tens of tokens, so it is for a process that lives long.
    Weights that share an array still do.
    """
    different = {id(weight): weight for weight in weights.values()}
    mapped = {key: array for key, weight in different.items() if is_mapped(array := _array(weight))}
    memory = np.empty(sum(_padded(array.nbytes) for array in mapped.values()) + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    copies = dict(different)
    for key, array in mapped.items():
        copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        start += _padded(array.nbytes)
        weight = different[key]
        copies[key] = replace(weight, data=copy) if isinstance(weight, Quantised) else copy
    return {name: copies[id(weight)] for name, weight in weights.items()}


def is_mapped(array: np.ndarray) -> bool:
    """Return True if an array is a view of a mapped file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap)


def _array(weight: Weight) -> np.ndarray:
    return weight.data if isinstance(weight, Quantised) else weight


def _padded(size: int) -> int:
    return -(-size // _LINE) * _LINE
