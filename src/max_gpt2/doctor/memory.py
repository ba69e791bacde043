"""The memory, and which of the four sizes it has room for."""

import os
import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

from max_gpt2.checkpoint.layout import LM_HEAD, canonical_shapes
from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.doctor.control_group import limits
from max_gpt2.doctor.finding import Finding, gigabytes

_BESIDES = 1 << 30
_FIRST_VERSION = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def memory() -> Finding:
    """Say how much memory there is, and which sizes fit into what is available."""
    total, available = memory_bytes(_meminfo())
    for most, used, statistics in (*_groups("memory.max", "memory.current"), *_groups(*_FIRST_VERSION, "memory")):
        if most.isdigit() and used.isdigit() and int(most) < total:
            total, available = int(most), min(available, int(most) - int(used) + reclaimable(statistics))
    fits = {name: needed(config) <= available for name, config in SIZES.items()}
    room = ", ".join(name for name, enough in fits.items() if enough) or "none of the four sizes, only the demo"
    says = f"{gigabytes(total)}, {gigabytes(available)} available: room for {room}"
    facts = {
        "total": total,
        "available": available,
        "needed": {name: needed(one) for name, one in SIZES.items()},
        "fits": fits,
    }
    if all(fits.values()):
        return Finding("memory", says, facts=facts)
    least = next(name for name, fit in fits.items() if not fit)
    enough = gigabytes(needed(SIZES[least]))
    remedy = f"For {least}, end other programs until {enough} are available, or take a larger machine."
    return Finding("memory", says, "note", remedy, facts)


def _groups(most: str, used: str, controller: str = "") -> Iterator[tuple[str, str, str]]:
    return zip(*(limits(name, controller) for name in (most, used, "memory.stat")), strict=False)


def reclaimable(statistics: str) -> int:
    """Return how much of a group's memory is only pages of files, which it gives back when it needs room."""
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", statistics, re.MULTILINE)
    return int(found[1]) if found else 0


def needed(config: GPT2Config) -> int:
    """Return about how much memory it takes to load, compile and run a size: docs/sizes.md has what was measured."""
    shapes = canonical_shapes(config)
    weights = 4 * sum(prod(shape) for name, shape in shapes.items() if name != LM_HEAD)
    return weights * 3 // 2 + _BESIDES


def memory_bytes(meminfo: str) -> tuple[int, int]:
    """Return how much memory there is and is available; without /proc/meminfo all of it counts as available."""
    sizes = {line.split(":")[0]: line.split()[1] for line in meminfo.splitlines() if len(line.split()) > 1}
    if "MemTotal" not in sizes:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    return 1024 * int(sizes["MemTotal"]), 1024 * int(sizes.get("MemAvailable", sizes["MemTotal"]))


def _meminfo() -> str:
    try:
        return Path("/proc/meminfo").read_text()
    except OSError:
        return ""
