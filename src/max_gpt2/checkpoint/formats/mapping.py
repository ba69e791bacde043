"""Map the file of a checkpoint into memory, as a whole."""

import mmap
from contextlib import suppress
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.errors import CheckpointError


class MappedFile:
    """A file whose values are arrays in place. It is mapped on first use.

    One mapping of the whole file, and not one for each tensor, lets Linux use huge pages for everything that its page
    cache holds in such pages, which a processor reads faster: it has to translate fewer addresses.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; the file is not opened yet."""
        self.path = path

    def values(self, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the values that start at byte `offset`: [*shape]; raises CheckpointError if they cannot be read.

        The mapping is copy-on-write: changing the array never changes the file.
        """
        try:
            content = self._content
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path} can no longer be read ({error}). {AGAIN}") from error
        if offset + prod(shape) * dtype.itemsize > len(content):
            raise CheckpointError(f"{self.path} has been truncated to {len(content):,} bytes. {AGAIN}")
        return np.ndarray(shape, dtype, content, offset)

    @cached_property
    def _content(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # only on Linux
            with suppress(OSError):  # a kernel without huge pages
                content.madvise(mmap.MADV_HUGEPAGE)
        return content
