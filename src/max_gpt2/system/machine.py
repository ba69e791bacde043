"""How exactly the system wakes threads up that sleep for a time."""

import ctypes
import importlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar


def cache_folder() -> Path | None:
    """Return the folder as MAX itself finds it; None without MAX."""
    try:
        return Path(importlib.import_module("max._core").engine.max_cache_dir())
    except Exception:  # a MAX that is missing, damaged or another one: the doctor says so
        return None


MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def limits(name: str, controller: str = "", mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> list[str]:
    """Return what a file such as `memory.max` says for this process, and for the groups around it.

    With a `controller`, such as "memory", it is a file of the first version of control groups.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    paths = [path for _, controllers, path in lines if controller in controllers.split(",")]
    if not paths:
        return []
    root = mount / controller
    group = root / paths[0].lstrip("/")
    around = [one for one in (group, *group.parents) if one.is_relative_to(root)]
    # In a container, its own group is often mounted as the root, and the path leads nowhere.
    return [text for one in around if (text := _read(one / name))]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


_FIRST_VERSION = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def memory() -> tuple[int, int]:
    """Return how many bytes there are and are available to this process, within the limits of its control groups."""
    total, available = memory_bytes(_meminfo())
    for most, used, statistics in (*_groups("memory.max", "memory.current"), *_groups(*_FIRST_VERSION, "memory")):
        if most.isdigit() and used.isdigit() and int(most) < total:
            total, available = int(most), min(available, int(most) - int(used) + reclaimable(statistics))
    return total, available


def reclaimable(statistics: str) -> int:
    """Return how much of a group's memory is only pages of files, which it gives back when it needs room."""
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", statistics, re.MULTILINE)
    return int(found[1]) if found else 0


def memory_bytes(meminfo: str) -> tuple[int, int]:
    """Return how much memory there is and is available; without /proc/meminfo all of it counts as available."""
    sizes = {line.split(":")[0]: line.split()[1] for line in meminfo.splitlines() if len(line.split()) > 1}
    if "MemTotal" not in sizes:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    return 1024 * int(sizes["MemTotal"]), 1024 * int(sizes.get("MemAvailable", sizes["MemTotal"]))


def _groups(most: str, used: str, controller: str = "") -> Iterator[tuple[str, str, str]]:
    return zip(*(limits(name, controller) for name in (most, used, "memory.stat")), strict=False)


def _meminfo() -> str:
    try:
        return Path("/proc/meminfo").read_text()
    except OSError:
        return ""


Result = TypeVar("Result")

_SET_TIMER_SLACK, _GET_TIMER_SLACK = 29, 30  # <linux/prctl.h>
#: In nanoseconds.
_LATE = 50_000_000


def patient_at_first(call: Callable[..., Result]) -> Callable[..., Result]:
    """Return the same function; what its first call starts has `patient_timers`.

    MAX 26.7 starts a thread when a process runs its first graph. Nothing waits for it, and it wakes up 5,000 times a
    second, each time on a core that is computing: without this, all kernels are slower by a seventh on two cores.
    """
    called = False

    def run(*arguments: object) -> Result:
        nonlocal called
        if called:
            return call(*arguments)
        with patient_timers():
            called = True
            return call(*arguments)

    return run


@contextmanager
def patient_timers() -> Iterator[None]:
    """Let the threads that are started in here sleep up to 50 ms longer than they say; does nothing without Linux.

    A thread inherits this "timer slack" from the one that starts it: prctl(2).
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    before = -1 if prctl is None else prctl(_GET_TIMER_SLACK, 0, 0, 0, 0)
    if prctl is None or before < 0:
        yield
        return
    prctl(_SET_TIMER_SLACK, ctypes.c_ulong(_LATE), 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_TIMER_SLACK, ctypes.c_ulong(before), 0, 0, 0)
