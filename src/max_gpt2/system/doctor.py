"""The checks of `max-gpt2 doctor`: machine, packages, folders and the Hugging Face hub."""

import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.system import machine
from max_gpt2.system.machine import cache_folder
from max_gpt2.weights import LM_HEAD

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check, with a remedy unless its state is "ok".

    A "note" affects some commands only; a "problem" affects all of them. `details` has the values of `message` in a
    form for programs.
    """

    name: str
    message: str
    state: State = "ok"
    remedy: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def format_bytes(size: float) -> str:
    """Return a size in MB, or in GB from 0.1 GB on."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def cpu() -> Finding:
    """Check the processor: its name, its vector extensions, and the cores that this process may use."""
    text = machine.read_cpuinfo()
    name, vectors = machine.processor(text), machine.vector_units(text, platform.machine())
    cores, usable = os.cpu_count() or 1, machine.usable_cores()
    message = f"{name}, {usable:g} of {cores} cores, {', '.join(vectors) or 'neither AVX2 nor NEON'}"
    details = {"processor": name, "cores": cores, "usable_cores": usable, "vectors": vectors}
    if vectors:
        return Finding("processor", message, details=details)
    remedy = "max-gpt2 works, but slowly. Use a machine with AVX2 or a 64-bit ARM processor if you can."
    return Finding("processor", message, "note", remedy, details)


SECONDS = 5.0
_OFFLINE = "Offline, use a folder, a filled Hugging Face cache (HF_HOME), or the bundled checkpoint (--model demo)."


def hub(seconds: float = SECONDS) -> Finding:
    """Check that the hub responds within `seconds`; skipped when HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    details = {"endpoint": constants.ENDPOINT, "reachable": None}
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "not checked: HF_HUB_OFFLINE is set", details=details)
    errors: list[str] = []
    # In a thread: a DNS lookup has no timeout.
    request = threading.Thread(target=lambda: errors.append(_request(constants.ENDPOINT, seconds)), daemon=True)
    request.start()
    request.join(seconds + 1)
    error = errors[0] if errors else f"no response within {seconds:g} s"
    if not error:
        return Finding("hub", f"{constants.ENDPOINT} is reachable", details=details | {"reachable": True})
    message = f"{constants.ENDPOINT} cannot be reached ({error})"
    return Finding("hub", message, "note", _OFFLINE, details | {"reachable": False})


def _request(endpoint: str, seconds: float) -> str:
    """Return the error of a request to the hub, or an empty string."""
    import httpx

    try:
        response = httpx.head(f"{endpoint}/openai-community/gpt2/resolve/main/config.json", timeout=seconds)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return "" if response.status_code < 400 else f"HTTP status {response.status_code}"


#: Memory for everything but the weights: MAX, its compiler and the KV cache.
_OVERHEAD_BYTES = 1 << 30
#: Bytes of a parameter, for types of weights from wide to narrow.
_BYTES = {"float32": 4, "float16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}


def memory() -> Finding:
    """Check the memory, and which of the four sizes fit in the available part."""
    total, available = machine.memory()
    fits = {name: needed(config) <= available for name, config in SIZES.items()}
    fitting = [name for name, enough in fits.items() if enough]
    for name in (name for name, enough in fits.items() if not enough):
        types = [one for one in _BYTES if needed(SIZES[name], one) <= available]
        fitting += [f"{name} with --weights {types[0]}"] if types else []
    message = f"{format_bytes(total)}, {format_bytes(available)} available: enough for "
    message += ", ".join(fitting) or "only the demo"
    details = {
        "total": total,
        "available": available,
        "needed": {name: needed(one) for name, one in SIZES.items()},
        "fits": fits,
    }
    if all(fits.values()):
        return Finding("memory", message, details=details)
    smallest = next(name for name, fit in fits.items() if not fit)
    enough = format_bytes(needed(SIZES[smallest]))
    remedy = f"For {smallest} in float32, close other programs until {enough} are available, or use a larger machine."
    return Finding("memory", message, "note", remedy, details)


def needed(config: GPT2Config, weights: str = "float32") -> int:
    """Return an estimate of the memory in bytes to load, compile and run a model: 1.5 times the weights plus 1 GiB."""
    shapes = canonical_shapes(config)
    parameters = sum(prod(shape) for name, shape in shapes.items() if name != LM_HEAD)
    return int(parameters * _BYTES[weights]) * 3 // 2 + _OVERHEAD_BYTES


def max_version() -> Finding:
    """Check that the pinned version of MAX is installed and can be imported."""
    wanted, found = pinned("max"), installed("max")
    details = {"version": found, "pinned": wanted}
    install = f"Run `pip install max=={wanted}`." if wanted else "Reinstall max-gpt2."
    if found is None:
        return Finding("MAX", "not installed", "problem", install, details)
    if wanted and found != wanted:
        message = f"{found}, but max-gpt2 requires {wanted}: MAX changes with every release"
        return Finding("MAX", message, "problem", install, details)
    try:
        importlib.import_module("max.engine")
    except Exception as error:  # a damaged installation can raise any exception
        message = f"{found}, which cannot be imported ({type(error).__name__}: {error})"
        return Finding("MAX", message, "problem", f"MAX needs 64-bit Linux or macOS. {install}", details)
    return Finding("MAX", f"{found}, the required version", details=details)


def compare_extra() -> Finding:
    """Check that PyTorch and transformers, which only `max-gpt2 verify` needs, are installed."""
    versions = {"PyTorch": installed("torch"), "transformers": installed("transformers")}
    message = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    if all(versions.values()):
        return Finding("for verify", message, details=versions)
    return Finding(
        "for verify", message, "note", "Only verify needs both: `pip install 'max-gpt2[compare]'`.", versions
    )


def installed(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def pinned(package: str) -> str | None:
    """Return the version to which max-gpt2's metadata pins a package, or None."""
    try:
        requirements = importlib.metadata.requires("max-gpt2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (re.fullmatch(rf"{package}==([\w.]+)", one.replace(" ", "")) for one in requirements)
    return next((one[1] for one in found if one), None)


LEAST_FREE = 500_000_000  # a few compiled models
GPT2_FILE = 548_105_171


def compile_cache() -> Finding:
    """Check the folder of compiled models: its size, its permissions and the free disk space."""
    folder = cache_folder()
    if folder is None:
        return Finding("compile cache", "unknown without MAX", "note", "Install MAX first.")
    size, free = folder_size(folder), shutil.disk_usage(existing(folder)).free
    message = f"{folder}, {format_bytes(size)}, {format_bytes(free)} free"
    details = {"folder": str(folder), "bytes": size, "free": free, "writable": writable(folder)}
    move = "or set MODULAR_MAX_CACHE_DIR to another folder."
    if not details["writable"]:
        return Finding("compile cache", f"{message}, not writable", "problem", f"Make it writable, {move}", details)
    if free < LEAST_FREE:
        remedy = f"Free {format_bytes(LEAST_FREE)} of disk space, {move}"
        return Finding("compile cache", f"{message}, which is too little", "problem", remedy, details)
    if not size:
        remedy = "The first start of each model takes about a minute. Run `max-gpt2 warmup` to compile one now."
        return Finding("compile cache", f"{message}, empty", "note", remedy, details)
    return Finding("compile cache", message, details=details)


def hub_cache() -> Finding:
    """Check the Hugging Face cache: its GPT-2 models, its permissions and the free disk space."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    models, free = gpt2s(folder), shutil.disk_usage(existing(folder)).free
    message = f"{folder}, with {', '.join(models) or 'no GPT-2'}, {format_bytes(free)} free"
    details = {"folder": str(folder), "models": models, "free": free, "writable": writable(folder)}
    if not details["writable"]:
        remedy = "To download models, make it writable, or set HF_HOME to another folder."
        return Finding("models", f"{message}, not writable", "note", remedy, details)
    if free < GPT2_FILE:
        remedy = f"To download gpt2, free {format_bytes(GPT2_FILE)} of disk space, or set HF_HOME to another folder."
        return Finding("models", message, "note", remedy, details)
    return Finding("models", message, details=details)


def gpt2s(cache: Path) -> list[str]:
    """Return the ids of the GPT-2 models in a Hugging Face cache that have weights."""
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
    """Return the size of all files in a folder in bytes, ignoring files that another process deletes meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except OSError:
                continue
    return total


def existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(one for one in (folder, *folder.absolute().parents) if one.is_dir())


def writable(folder: Path) -> bool:
    """Return True if a file can be created in the folder, or in its nearest parent if it does not exist."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            return True
    except OSError:
        return False


def examine() -> list[Finding]:
    """Run all checks, which may take a few seconds."""
    return [check() for check in (cpu, memory, max_version, compile_cache, hub_cache, hub, compare_extra)]
