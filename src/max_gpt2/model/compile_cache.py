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
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from max_gpt2 import model
from max_gpt2.config import GPT2Config
from max_gpt2.model import CompiledModel, Kernels
from max_gpt2.system.machine import cache_folder, patient_at_first

if TYPE_CHECKING:
    from max.driver import Buffer
    from max.experimental.compilation import CompiledCallable

#: Takes one buffer for each input of a graph.
Run = Callable[..., "list[Buffer]"]
#: The graphs there are: with either kind of kernels, and the one of the server.
Graph = Literal["mojo", "builtin", "paged"]
#: What in a config makes no other graph.
_NOT_IN_THE_GRAPH = ("eos_token_ids", "tie_word_embeddings")


def ready_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels = "mojo") -> CompiledModel:
    """Return a model for any number of texts of any length; `state_dict` is canonical and used in place, not copied."""

    def compiled() -> "CompiledCallable[..., Any]":
        from max_gpt2.model.compile import compile_graph

        return compile_graph(config, state_dict, kernels)

    return CompiledModel(config, kernels, _ready(config, state_dict, kernels, compiled), state_dict)


def ready_paged(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> Run:
    """Return what `max_gpt2.model.compile.compile_paged` makes, as a function of buffers."""

    def compiled() -> "CompiledCallable[..., Any]":
        from max_gpt2.model.compile import compile_paged

        return compile_paged(config, state_dict)

    return _ready(config, state_dict, "paged", compiled)


def _ready(
    config: GPT2Config,
    state_dict: Mapping[str, np.ndarray],
    graph: Graph,
    compiled: "Callable[[], CompiledCallable[..., Any]]",
) -> Run:
    folder, key = compiled_files(), key_of(config, graph)
    for path in folder.glob(f"{key}-*.mef") if folder else ():
        if found := _read(path, state_dict):
            return patient_at_first(found)
    fresh = compiled()
    if folder:
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "fresh.mef"
            fresh.export_mef(file)
            keep(file.read_bytes(), folder, key)
    return patient_at_first(fresh.execute_raw)


def compiled_files() -> Path | None:
    """Return the folder of the files, in that of MAX, which may not exist; None without MAX."""
    cache = cache_folder()
    return cache / "max-gpt2" if cache else None


def key_of(config: GPT2Config, graph: Graph) -> str:
    """Return what a file is found by."""
    fields = {name: value for name, value in asdict(config).items() if name not in _NOT_IN_THE_GRAPH}
    sources = Path(model.__file__).parent
    files = sorted(path for path in sources.rglob("*") if path.suffix in (".py", ".mojo"))
    parts = [json.dumps(fields, sort_keys=True), graph, metadata.version("max"), _processor()]
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


def _read(path: Path, state_dict: Mapping[str, np.ndarray]) -> Run | None:
    """Return the graph of a file, None when the file is damaged: its name says what its content has to be."""
    from max.driver import CPU
    from max.engine import InferenceSession, read

    try:
        content = path.read_bytes()
        if path.stem.rpartition("-")[2] != _digest(content):
            path.unlink()
            return None
        session = InferenceSession(devices=[CPU()])
        return session.init(read(path), weights_registry=dict(state_dict))
    except (OSError, RuntimeError, ValueError):
        return None


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
