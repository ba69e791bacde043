"""Map the file of a checkpoint into memory: parts of it, or the whole file."""

import mmap
from contextlib import suppress
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.errors import CheckpointError

#: Bytes of a huge page on x86-64 and on arm64.
_HUGE_PAGE = 2**21


class MappedFile:
    """A file whose values are arrays in place. It is opened when they are needed.

    The mappings are copy-on-write: changing an array never changes the file.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path."""
        self.path = path

    def values(self, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the values that start at byte `offset`: [*shape]; raises CheckpointError if they cannot be read.

        Each array has a mapping of its own, which ends with the array.
        """
        try:
            return np.memmap(self.path, dtype, "c", offset, shape)
        except (OSError, ValueError) as error:
            raise self._error(str(error)) from error

    def kept_values(self, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the same for an array that stays in use: all large arrays share one mapping of the whole file.

        So Linux can use huge pages for everything that its page cache holds in such pages, which a processor reads
        faster: it has to translate fewer addresses. Arrays of the same values share their memory.
        """
        end = offset + prod(shape) * dtype.itemsize
        if end - offset < _HUGE_PAGE:  # it would take a huge page in which there may be nothing else that is in use
            return self.values(dtype, offset, shape)
        try:
            content = self._content
        except (OSError, ValueError) as error:
            raise self._error(str(error)) from error
        if end > len(content):
            raise self._error(f"it ends at byte {len(content):,}")
        return np.ndarray(shape, dtype, content, offset)

    @cached_property
    def _content(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # only on Linux
            with suppress(OSError):  # a kernel without huge pages
                content.madvise(mmap.MADV_HUGEPAGE)
        return content

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path} can no longer be read ({reason}). {AGAIN}")
