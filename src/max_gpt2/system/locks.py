"""Lock files: locks between processes, which the kernel releases when their holder ends, also by SIGKILL."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Wait for a lock and hold it in this context; the file exists only while it is used.

    The value is False if the file cannot be created or the file system has no locks: the context is not exclusive then.
    """
    try:
        file = _open_locked(path)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _open_locked(path: Path) -> int:
    """Create a file, wait for its lock, and return its descriptor; raises OSError."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except BaseException:  # also Ctrl-C while it waits
            os.close(file)
            raise
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # the previous holder deleted the file; another process may lock a new one
