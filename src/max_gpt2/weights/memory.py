"""Copies of weights in the memory of the process, in the place of a mapped file."""

import mmap
from dataclasses import replace

import numpy as np

from max_gpt2.weights.types import Quantised, Weight, Weights


def copy_mapped(weights: Weights) -> dict[str, Weight]:
    """Return the weights with a copy of every array that is mapped from a file.

    On Linux, numpy asks for huge pages for large arrays, which a processor reads faster than the pages of a file: it
    has to translate fewer addresses. On Zen 3, a token of one sequence took 0.92 of the time. Copying the weights of
    `gpt2` takes as long as 30 tokens, so it is for a process that lives long. Weights that share an array still do.
    """
    different = {id(weight): weight for weight in weights.values()}
    copies = {key: _copied(weight) for key, weight in different.items()}
    return {name: copies[id(weight)] for name, weight in weights.items()}


def _copied(weight: Weight) -> Weight:
    if isinstance(weight, Quantised):
        return replace(weight, data=np.array(weight.data)) if is_mapped(weight.data) else weight
    return np.array(weight) if is_mapped(weight) else weight


def is_mapped(array: np.ndarray) -> bool:
    """Return True if an array is a view of a mapped file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)
