"""Look at everything."""

import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

from max_gpt2.checkpoint.layout import LM_HEAD, canonical_shapes
from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.system import machine
from max_gpt2.system.machine import cache_folder, limits

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what there is, and unless all is well what to do.

    A "note" is something that some commands can do without, a "problem" something that all need. `details` are the
    same for programs.
    """

    name: str
    message: str
    state: State = "ok"
    remedy: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def gigabytes(size: float) -> str:
    """Return a size as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


#: What the vector units are called in /proc/cpuinfo, the fastest first.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def cpu() -> Finding:
    """Name the processor, its vector units, and the cores that this process may use."""
    text = _cpuinfo()
    name, vectors = processor(text), vector_units(text, platform.machine())
    cores, usable = os.cpu_count() or 1, usable_cores()
    message = f"{name}, {usable:g} of {cores} cores, {', '.join(vectors) or 'no AVX2 and no NEON'}"
    details = {"processor": name, "cores": cores, "usable_cores": usable, "vectors": vectors}
    if vectors:
        return Finding("processor", message, details=details)
    remedy = "It works, but slowly: take a machine with AVX2 (since 2013) or an ARM processor if there is one."
    return Finding("processor", message, "note", remedy, details)


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


SECONDS = 5.0
_WAYS_OUT = "Without it: a folder, a filled Hugging Face cache (HF_HOME), or the checkpoint that ships (--model demo)."


def hub(seconds: float = SECONDS) -> Finding:
    """Say whether the hub answers within a few seconds; it is not asked when HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    details = {"endpoint": constants.ENDPOINT, "reachable": None}
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "not asked: HF_HUB_OFFLINE is set", details=details)
    problem: list[str] = []
    # In a thread, since a name server that does not answer knows no time limit.
    asking = threading.Thread(target=lambda: problem.append(_ask(constants.ENDPOINT, seconds)), daemon=True)
    asking.start()
    asking.join(seconds + 1)
    why = problem[0] if problem else f"no answer within {seconds:g} s"
    if not why:
        return Finding("hub", f"{constants.ENDPOINT} answers", details=details | {"reachable": True})
    message = f"{constants.ENDPOINT} cannot be reached ({why})"
    return Finding("hub", message, "note", _WAYS_OUT, details | {"reachable": False})


def _ask(endpoint: str, seconds: float) -> str:
    """Return what went wrong, or an empty text."""
    import httpx

    try:
        answer = httpx.head(f"{endpoint}/openai-community/gpt2/resolve/main/config.json", timeout=seconds)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return "" if answer.status_code < 400 else f"it answers with {answer.status_code}"


_BESIDES = 1 << 30


def memory() -> Finding:
    """Say how much memory there is, and which sizes fit into what is available."""
    total, available = machine.memory()
    fits = {name: needed(config) <= available for name, config in SIZES.items()}
    room = ", ".join(name for name, enough in fits.items() if enough) or "none of the four sizes, only the demo"
    message = f"{gigabytes(total)}, {gigabytes(available)} available: room for {room}"
    details = {
        "total": total,
        "available": available,
        "needed": {name: needed(one) for name, one in SIZES.items()},
        "fits": fits,
    }
    if all(fits.values()):
        return Finding("memory", message, details=details)
    least = next(name for name, fit in fits.items() if not fit)
    enough = gigabytes(needed(SIZES[least]))
    remedy = f"For {least}, end other programs until {enough} are available, or take a larger machine."
    return Finding("memory", message, "note", remedy, details)


def needed(config: GPT2Config) -> int:
    """Return about how much memory it takes to load, compile and run a size: docs/sizes.md has what was measured."""
    shapes = canonical_shapes(config)
    weights = 4 * sum(prod(shape) for name, shape in shapes.items() if name != LM_HEAD)
    return weights * 3 // 2 + _BESIDES


def max_version() -> Finding:
    """Say whether MAX is there, in the version that is pinned, and can be imported."""
    wanted, found = pinned("max"), installed("max")
    details = {"version": found, "pinned": wanted}
    install = f"Run `pip install max=={wanted}`." if wanted else "Install max-gpt2 again."
    if found is None:
        return Finding("MAX", "is not installed", "problem", install, details)
    if wanted and found != wanted:
        message = f"{found}, but max-gpt2 was written for {wanted}: MAX changes with every release"
        return Finding("MAX", message, "problem", install, details)
    try:
        importlib.import_module("max.engine")
    except Exception as error:  # whatever it is, the user has to know
        message = f"{found}, which cannot be imported ({type(error).__name__}: {error})"
        return Finding("MAX", message, "problem", f"It needs 64-bit Linux or macOS. {install}", details)
    return Finding("MAX", f"{found}, the version that is pinned", details=details)


def compare_extra() -> Finding:
    """Say whether PyTorch and transformers are there."""
    versions = {"PyTorch": installed("torch"), "transformers": installed("transformers")}
    message = ", ".join(f"{name} {version or 'is not installed'}" for name, version in versions.items())
    if all(versions.values()):
        return Finding("for verify", message, details=versions)
    return Finding(
        "for verify", message, "note", "Only verify needs both: `pip install 'max-gpt2[compare]'`.", versions
    )


def installed(package: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def pinned(package: str) -> str | None:
    """Return the only version of a package that max-gpt2 asks for, as its own metadata has it."""
    try:
        requirements = importlib.metadata.requires("max-gpt2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (re.fullmatch(rf"{package}==([\w.]+)", one.replace(" ", "")) for one in requirements)
    return next((one[1] for one in found if one), None)


LEAST_FREE = 500_000_000  # a few compiled models
GPT2_FILE = 548_105_171


def compile_cache() -> Finding:
    """Say where MAX keeps compiled models, how large that is, and whether there is room for more."""
    folder = cache_folder()
    if folder is None:
        return Finding("compile cache", "cannot be found without MAX", "note", "See the line of MAX.")
    size, free = folder_size(folder), shutil.disk_usage(existing(folder)).free
    message = f"{folder}, {gigabytes(size)}, {gigabytes(free)} free"
    details = {"folder": str(folder), "bytes": size, "free": free, "writable": writable(folder)}
    move = "or set MODULAR_MAX_CACHE_DIR to another folder."
    if not details["writable"]:
        return Finding("compile cache", f"{message}, not writable", "problem", f"Make it writable, {move}", details)
    if free < LEAST_FREE:
        remedy = f"Make room for {gigabytes(LEAST_FREE)}, {move}"
        return Finding("compile cache", f"{message}, which is little", "problem", remedy, details)
    if not size:
        remedy = "The first start of each model takes about a minute. `max-gpt2 warm` does it now."
        return Finding("compile cache", f"{message}, so it is empty", "note", remedy, details)
    return Finding("compile cache", message, details=details)


def hub_cache() -> Finding:
    """Say where the Hugging Face cache is, which GPT-2s are in it, and how much disk is free."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    models, free = gpt2s(folder), shutil.disk_usage(existing(folder)).free
    message = f"{folder}, with {', '.join(models) or 'no GPT-2'}, {gigabytes(free)} free"
    details = {"folder": str(folder), "models": models, "free": free, "writable": writable(folder)}
    if not details["writable"]:
        remedy = "To download models, make it writable, or set HF_HOME to another folder."
        return Finding("models", f"{message}, not writable", "note", remedy, details)
    if free < GPT2_FILE:
        remedy = f"To download gpt2, make room for {gigabytes(GPT2_FILE)}, or set HF_HOME to another folder."
        return Finding("models", message, "note", remedy, details)
    return Finding("models", message, details=details)


def gpt2s(cache: Path) -> list[str]:
    """Return the ids of the GPT-2s in a Hugging Face cache whose weights are there."""
    found = set()
    for config in cache.glob("models--*/snapshots/*/config.json"):
        try:
            is_gpt2 = json.loads(config.read_bytes())["model_type"] == "gpt2"
            weights = [
                one for one in config.parent.iterdir() if one.suffix in (".safetensors", ".bin") and one.exists()
            ]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if is_gpt2 and weights:
            found.add(config.parents[2].name.removeprefix("models--").replace("--", "/"))
    return sorted(found)


def folder_size(folder: Path) -> int:
    """Return the size of all files in a folder; another process may be deleting some."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except OSError:
                continue
    return total


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(one for one in (folder, *folder.absolute().parents) if one.is_dir())


def writable(folder: Path) -> bool:
    """Say whether a file can be made in a folder, or the folder itself where it does not exist."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            return True
    except OSError:
        return False


def examine() -> list[Finding]:
    """Look at the machine, the packages, the folders and the hub, which may take a few seconds."""
    return [look() for look in (cpu, memory, max_version, compile_cache, hub_cache, hub, compare_extra)]
