"""Remove files from the operating system's page cache."""

import os
from pathlib import Path


def evict(folder: Path) -> None:
    """Remove all files below a folder from the page cache, so that the next process reads them as after a boot.

    Linux keeps a file in pages of the sizes in which it was written or read. A file that has just been written in small
    pieces would be read more slowly than one that was written in large pieces, or that comes from the disk. Does
    nothing on systems without `posix_fadvise`.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # only what has been written to the disk can be removed
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
