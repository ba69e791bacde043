"""The folders: where MAX keeps what it compiled, and the Hugging Face cache."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from max_gpt2.doctor.finding import Finding, gigabytes
from max_gpt2.machine.compile_cache import cache_folder

LEAST_FREE = 500_000_000  # a few compiled models
GPT2_FILE = 548_105_171


def compile_cache() -> Finding:
    """Say where MAX keeps compiled models, how large that is, and whether there is room for more."""
    folder = cache_folder()
    if folder is None:
        return Finding("compile cache", "cannot be found without MAX", "note", "See the line of MAX.")
    size, free = size_of(folder), shutil.disk_usage(existing(folder)).free
    says = f"{folder}, {gigabytes(size)}, {gigabytes(free)} free"
    facts = {"folder": str(folder), "bytes": size, "free": free, "writable": writable(folder)}
    move = "or set MODULAR_MAX_CACHE_DIR to another folder."
    if not facts["writable"]:
        return Finding("compile cache", f"{says}, not writable", "problem", f"Make it writable, {move}", facts)
    if free < LEAST_FREE:
        remedy = f"Make room for {gigabytes(LEAST_FREE)}, {move}"
        return Finding("compile cache", f"{says}, which is little", "problem", remedy, facts)
    if not size:
        remedy = "The first start of each model takes about a minute. `max-gpt2 warm` does it now."
        return Finding("compile cache", f"{says}, so it is empty", "note", remedy, facts)
    return Finding("compile cache", says, facts=facts)


def hub_cache() -> Finding:
    """Say where the Hugging Face cache is, which GPT-2s are in it, and how much disk is free."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    models, free = gpt2s(folder), shutil.disk_usage(existing(folder)).free
    says = f"{folder}, with {', '.join(models) or 'no GPT-2'}, {gigabytes(free)} free"
    facts = {"folder": str(folder), "models": models, "free": free, "writable": writable(folder)}
    if not facts["writable"]:
        remedy = "To download models, make it writable, or set HF_HOME to another folder."
        return Finding("models", f"{says}, not writable", "note", remedy, facts)
    if free < GPT2_FILE:
        remedy = f"To download gpt2, make room for {gigabytes(GPT2_FILE)}, or set HF_HOME to another folder."
        return Finding("models", says, "note", remedy, facts)
    return Finding("models", says, facts=facts)


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


def size_of(folder: Path) -> int:
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
