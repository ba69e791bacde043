"""What `torch.save` wrote before version 1.6: pickles that follow each other, and then the numbers.

PyTorch takes the memory that such a file asks for before it looks at what the file has, and leaves as it was what the
file says nothing about.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.types import Storage

_NAN = 0xFF  # a number that has all bits set is NaN, whatever its dtype


def load_unzipped(path: Path) -> Any:
    """Return what the file holds; raises what PyTorch raises, and ValueError for more numbers than the file has."""
    import torch

    with _Bounded(io.FileIO(path)) as file:
        return torch.load(file, map_location=_storages(path.stat().st_size), weights_only=True)


class _Bounded(io.BufferedReader):
    """A file that is asked for no more than it has: Python takes the memory for all that is asked for first."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _storages(left: int) -> "Callable[[Storage, str], Storage]":
    """Return what PyTorch calls for each storage before it reads the numbers into it."""
    import torch

    def take(storage: "Storage", _: str) -> "Storage":
        nonlocal left
        left -= storage.nbytes()
        if left < 0:
            raise ValueError("it promises more numbers than it has")
        # What is not read then must not be what happened to be in the memory.
        torch.empty(0, dtype=torch.uint8).set_(storage).fill_(_NAN)
        return storage

    return take
