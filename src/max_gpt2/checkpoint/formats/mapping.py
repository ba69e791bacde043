"""Map the values of a checkpoint's file into memory."""

import mmap
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import prod
from operator import itemgetter
from pathlib import Path
from threading import Lock

import numpy as np

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.errors import CheckpointError

#: Bytes of a huge page on x86-64 and on arm64.
_HUGE_PAGE = 2**21

#: The first byte of a range, and the byte after its last.
_Range = tuple[int, int]


class MappedFile:
    """A file whose values are arrays in place. It is opened when they are needed.

    The mappings are copy-on-write: changing an array never changes the file.
    """

    def __init__(self, path: Path, used: Iterable[Sequence[int]]) -> None:
        """Remember the path and the ranges of bytes, [start, end), that the model may use in place."""
        self.path = path
        self._used = _joined(used)
        self._mapped: dict[_Range, np.ndarray] = {}
        self._lock = Lock()

    def values(self, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the values that start at byte `offset`: [*shape]; raises CheckpointError if they cannot be read.

        Each array has a mapping of its own, which ends with the array.
        """
        try:
            return np.memmap(self.path, dtype, "c", offset, shape)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path} can no longer be read ({error}). {AGAIN}") from error

    def kept_values(self, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the same for an array that stays in use: large arrays share a mapping with those beside them.

        So Linux can use huge pages for everything that its page cache holds in such pages, which a processor reads
        faster: it has to translate fewer addresses. A huge page that is partly unused would take memory, so the
        mappings end at unused ranges. Arrays of the same values share their memory.
        """
        end = offset + prod(shape) * dtype.itemsize
        before = bisect_right(self._used, offset, key=itemgetter(0))
        whole = self._used[before - 1] if before else (0, 0)
        if end - offset < _HUGE_PAGE or end > whole[1]:
            return self.values(dtype, offset, shape)
        with self._lock:  # tensors are read by several threads
            if whole not in self._mapped:
                self._mapped[whole] = self.values(np.dtype(np.uint8), whole[0], (whole[1] - whole[0],))
                _advise_huge_pages(self._mapped[whole])
        return np.ndarray(shape, dtype, self._mapped[whole], offset - whole[0])


def _joined(ranges: Iterable[Sequence[int]]) -> list[_Range]:
    """Return ascending ranges; those with less than a page between them become one."""
    joined: list[_Range] = []
    for start, end in sorted(map(tuple, ranges)):
        if joined and start < joined[-1][1] + mmap.PAGESIZE:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _advise_huge_pages(array: np.ndarray) -> None:
    """Tell Linux that a mapped array may have huge pages, also where its file has yet to be read."""
    mapping = array.base
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):  # only on Linux
        with suppress(OSError):  # a kernel without huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
