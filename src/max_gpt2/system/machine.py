"""The machine as this process sees it: processor, usable cores, memory, MAX's cache folder, timer slack, libraries."""

import ctypes
import importlib
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar


def cache_folder() -> Path | None:
    """Return MAX's cache folder, which MAX itself determines; None without MAX."""
    try:
        return Path(importlib.import_module("max._core").engine.max_cache_dir())
    except Exception:  # MAX is missing, damaged or of another version; `max-gpt2 doctor` reports it
        return None


#: The vector extensions by their flags in /proc/cpuinfo, fastest first.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def read_cpuinfo() -> str:
    """Return the content of /proc/cpuinfo, or the same fields from sysctl on macOS."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return _sysctl()


def _sysctl() -> str:
    """Return the name and the flags of a Mac's processor in the format of /proc/cpuinfo; empty elsewhere."""
    names = ("machdep.cpu.brand_string", "machdep.cpu.leaf7_features")
    try:
        name, flags = (
            subprocess.run(["sysctl", "-n", one], capture_output=True, text=True, timeout=5, check=False).stdout.strip()
            for one in names
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"model name : {name}\nflags : {flags}\n" if name else ""


def processor(cpuinfo: str) -> str:
    """Return the name of the processor; without one in /proc/cpuinfo, as on ARM, the name of the architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"


def vector_units(cpuinfo: str, machine: str) -> list[str]:
    """Return the names of the vector extensions, fastest first; every 64-bit ARM processor has NEON."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE | re.IGNORECASE)
    flags = set(found[1].lower().split()) if found else set()
    if machine in ("arm64", "aarch64"):
        flags.add("asimd")
    return [name for flag, name in VECTORS.items() if flag in flags]


def usable_cores() -> float:
    """Return the number of cores that this process may use; the CPU quota of a container can make it a fraction."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [tuple(text.split()) for text in cgroup_values("cpu.max")]
    quotas, periods = cgroup_values("cpu.cfs_quota_us", "cpu"), cgroup_values("cpu.cfs_period_us", "cpu")
    limits += zip(quotas, periods, strict=False)
    for quota, period in (pair for pair in limits if len(pair) == 2):
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, int(quota) / int(period))
    return round(cores, 2)


MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cgroup_values(name: str, controller: str = "", mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> list[str]:
    """Return the content of a file such as `memory.max` in this process's control group and in each of its parents.

    The name of a `controller`, such as "memory", selects a file of control groups version 1.
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
    groups = [one for one in (group, *group.parents) if one.is_relative_to(root)]
    # In a container, its own group is often mounted as the root, and the path does not exist.
    return [text for one in groups if (text := _read(one / name))]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def memory() -> tuple[int, int]:
    """Return the total and the available memory in bytes, within the limits of this process's control groups."""
    total, available = memory_bytes(_meminfo())
    for limit, used, statistics in (*_groups("memory.max", "memory.current"), *_groups(*_VERSION_1, "memory")):
        if limit.isdigit() and used.isdigit() and int(limit) < total:
            total, available = int(limit), min(available, int(limit) - int(used) + reclaimable(statistics))
    return total, available


def reclaimable(statistics: str) -> int:
    """Return the size in bytes of a control group's inactive page cache, which the kernel frees on demand."""
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", statistics, re.MULTILINE)
    return int(found[1]) if found else 0


def memory_bytes(meminfo: str) -> tuple[int, int]:
    """Return the total and the available memory in bytes; without /proc/meminfo, all memory counts as available."""
    sizes = {line.split(":")[0]: line.split()[1] for line in meminfo.splitlines() if len(line.split()) > 1}
    if "MemTotal" not in sizes:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    return 1024 * int(sizes["MemTotal"]), 1024 * int(sizes.get("MemAvailable", sizes["MemTotal"]))


def _groups(limit: str, used: str, controller: str = "") -> Iterator[tuple[str, str, str]]:
    return zip(*(cgroup_values(name, controller) for name in (limit, used, "memory.stat")), strict=False)


def _meminfo() -> str:
    try:
        return Path("/proc/meminfo").read_text()
    except OSError:
        return ""


Result = TypeVar("Result")

_SET_TIMER_SLACK, _GET_TIMER_SLACK = 29, 30  # <linux/prctl.h>
_SLACK_NS = 50_000_000


def with_timer_slack(call: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function like `call`; its first call runs within `timer_slack`.

    MAX 26.7 starts a thread when a process runs its first graph. Nothing depends on that thread, but it wakes up 5,000
    times a second and interrupts a computing core each time: without the slack, all kernels are one seventh slower on
    two cores.
    """
    called = False

    def run(*arguments: object) -> Result:
        nonlocal called
        if called:
            return call(*arguments)
        with timer_slack():
            called = True
            return call(*arguments)

    return run


@contextmanager
def timer_slack() -> Iterator[None]:
    """Give threads started in this context a timer slack of 50 ms: their sleeps may last that much longer.

    A thread inherits the timer slack of the thread that starts it, see prctl(2). Does nothing on systems other than
    Linux.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    before = -1 if prctl is None else prctl(_GET_TIMER_SLACK, 0, 0, 0, 0)
    if prctl is None or before < 0:
        yield
        return
    prctl(_SET_TIMER_SLACK, ctypes.c_ulong(_SLACK_NS), 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_TIMER_SLACK, ctypes.c_ulong(before), 0, 0, 0)


def import_pyarrow() -> None:
    """Import pyarrow if it is installed; call this before MAX loads a graph.

    Both libraries contain OpenTelemetry, and the dynamic linker merges some of its variables. If MAX comes first,
    pyarrow's `take` dereferences an invalid pointer, so pandas 3 ends the process with a segmentation fault.
    """
    with suppress(ImportError):
        import pyarrow  # noqa: F401
