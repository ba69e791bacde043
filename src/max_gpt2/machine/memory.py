"""How much memory there is, and how much of it is available."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from max_gpt2.machine.control_group import limits

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
