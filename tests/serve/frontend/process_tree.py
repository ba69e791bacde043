"""Find the processes of a server and measure their memory."""

import contextlib
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process, nearest first."""
    found, level = [], [pid]
    while level:
        level = [child for parent in level for child in started_by(parent)]
        found += level
    return found


def started_by(pid: int) -> list[int]:
    """Return the running children of a process, including those that its threads started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(one) for one in task.read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Return True if a process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def memory(pid: int) -> int:
    """Return the anonymous memory of a process and its descendants in bytes; mapped files do not count."""
    total = 0
    for one in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))
    return total
