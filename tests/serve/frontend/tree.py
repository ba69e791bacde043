"""A server's processes: which they are, and how much memory they have."""

import contextlib
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return all below a process, those of its threads' too."""
    found, level = [], [pid]
    while level:
        level = [below for parent in level for below in started_by(parent)]
        found += level
    return found


def started_by(pid: int) -> list[int]:
    """Return the processes that a process and its threads have started, and that still run."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(one) for one in task.read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def memory(pid: int) -> int:
    """Return the bytes that a process and all below it have allocated, which files that they read are not part of."""
    total = 0
    for one in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))
    return total
