"""Get a model ready to run: the first time it is compiled, and the compiled graph kept as a file for later starts.

MAX keeps what it compiled, too, but finds it only when the graph has been made and the kernels have been translated
once more, which takes seconds. A file is found by all that its content depends on: the sizes and flags of the model,
not its weights; the kernels, and how graphs are made; MAX; and the processor.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np

from max_gpt2 import model
from max_gpt2.config import GPT2Config
from max_gpt2.machine.compile_cache import cache_folder
from max_gpt2.model import CompiledModel, Kernels

#: What in a config makes no other graph.
_NOT_IN_THE_GRAPH = ("eos_token_ids", "tie_word_embeddings")


def ready_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels = "mojo") -> CompiledModel:
    """Return a model for any number of texts of any length; `state_dict` is canonical and used in place, not copied."""
    folder, key = compiled_files(), key_of(config, kernels)
    for path in folder.glob(f"{key}-*.mef") if folder else ():
        if found := _read(path, config, state_dict, kernels):
            return found
    from max_gpt2.model.compiling import compile_graph

    graph = compile_graph(config, state_dict, kernels)
    if folder:
        with tempfile.TemporaryDirectory() as temporary:
            fresh = Path(temporary) / "fresh.mef"
            graph.export_mef(fresh)
            keep(fresh.read_bytes(), folder, key)
    return CompiledModel(config, kernels, graph.execute_raw, state_dict)


def compiled_files() -> Path | None:
    """Return the folder of the files, in that of MAX, which may not exist; None without MAX."""
    cache = cache_folder()
    return cache / "max-gpt2" if cache else None


def key_of(config: GPT2Config, kernels: Kernels) -> str:
    """Return what a file is found by."""
    fields = {name: value for name, value in asdict(config).items() if name not in _NOT_IN_THE_GRAPH}
    sources = Path(model.__file__).parent
    files = sorted(path for path in sources.rglob("*") if path.suffix in (".py", ".mojo"))
    parts = [json.dumps(fields, sort_keys=True), kernels, metadata.version("max"), _processor()]
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in files:
        digest.update(f"{path.relative_to(sources)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def keep(content: bytes, folder: Path, key: str) -> None:
    """Put a file into the folder, whole or not at all; where that cannot be, the next start takes longer."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            file = Path(partial) / "mef"
            file.write_bytes(content)
            file.replace(folder / f"{key}-{_digest(content)}.mef")
    except OSError:
        pass


def _read(
    path: Path, config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels
) -> CompiledModel | None:
    """Return the model of a file, None when the file is damaged: its name says what its content has to be."""
    from max.driver import CPU
    from max.engine import InferenceSession, read

    try:
        content = path.read_bytes()
        if path.stem.rpartition("-")[2] != _digest(content):
            path.unlink()
            return None
        session = InferenceSession(devices=[CPU()])
        graph = session.init(read(path), weights_registry=dict(state_dict))
    except (OSError, RuntimeError, ValueError):
        return None
    return CompiledModel(config, kernels, graph, state_dict)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _processor() -> str:
    """Return what kind of processor this is, and how many of its cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor(), platform.version()]
    names = ("model name", "flags", "Features", "CPU part")
    kinds = sorted({line for line in lines if line.startswith(names)}) or lines
    return "\n".join([platform.machine(), platform.system(), str(os.cpu_count()), *kinds])
