"""The processor, and how much of it this process may use."""

import os
import platform
import re
import subprocess
from pathlib import Path

from max_gpt2.doctor.finding import Finding
from max_gpt2.machine.control_group import limits

#: What the vector units are called in /proc/cpuinfo, the fastest first.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def cpu() -> Finding:
    """Name the processor, its vector units, and the cores that this process may use."""
    text = _cpuinfo()
    name, vectors = processor(text), vector_units(text, platform.machine())
    cores, usable = os.cpu_count() or 1, usable_cores()
    says = f"{name}, {usable:g} of {cores} cores, {', '.join(vectors) or 'no AVX2 and no NEON'}"
    facts = {"processor": name, "cores": cores, "usable_cores": usable, "vectors": vectors}
    if vectors:
        return Finding("processor", says, facts=facts)
    remedy = "It works, but slowly: take a machine with AVX2 (since 2013) or an ARM processor if there is one."
    return Finding("processor", says, "note", remedy, facts)


def processor(cpuinfo: str) -> str:
    """Return the name of the processor; ARM's /proc/cpuinfo has none."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"


def vector_units(cpuinfo: str, machine: str) -> list[str]:
    """Return the names of the vector units; an ARM processor of 64 bits always has NEON."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE | re.IGNORECASE)
    flags = set(found[1].lower().split()) if found else set()
    if machine in ("arm64", "aarch64"):
        flags.add("asimd")
    return [name for flag, name in VECTORS.items() if flag in flags]


def usable_cores() -> float:
    """Return how many cores this process may use, which a container's quota makes a fraction."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [tuple(text.split()) for text in limits("cpu.max")]
    whole, parts = limits("cpu.cfs_quota_us", "cpu"), limits("cpu.cfs_period_us", "cpu")
    quotas += zip(whole, parts, strict=False)
    for quota, period in (pair for pair in quotas if len(pair) == 2):
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, int(quota) / int(period))
    return round(cores, 2)


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return _sysctl()


def _sysctl() -> str:
    """Say in the words of /proc/cpuinfo what macOS knows."""
    names = ("machdep.cpu.brand_string", "machdep.cpu.leaf7_features")
    try:
        name, flags = (
            subprocess.run(["sysctl", "-n", one], capture_output=True, text=True, timeout=5, check=False).stdout.strip()
            for one in names
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"model name : {name}\nflags : {flags}\n" if name else ""
