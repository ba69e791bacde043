"""Lock files: locks between processes, which the kernel releases when their holder ends, also by SIGKILL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


def try_lock(path: Path) -> int | None:
    """Lock a file, created if it is missing, and return its descriptor; None if another process holds the lock.

    Closing the descriptor releases the lock. Raises OSError when the file cannot be created or locked.
    """
    return _open_locked(path, wait=False)


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Wait for a lock and hold it in this context; the file exists only while it is used.

    The value is False if the file cannot be created or the file system has no locks: the context is not exclusive then.
    """
    try:
        file = _open_locked(path, wait=True)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        if file is not None:
            os.close(file)


def _open_locked(path: Path, wait: bool) -> int | None:
    if fcntl is None:
        raise OSError("This system has no file locks.")
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:  # also Ctrl-C while it waits
            os.close(file)
            raise
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # the previous holder deleted the file; another process may lock a new one
