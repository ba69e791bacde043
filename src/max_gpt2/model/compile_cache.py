"""Load compiled graphs from files, or compile them and save the result for later starts.

MAX has a cache of its own, but it is keyed by the built graph and the translated kernels, which take seconds to make.
The files here are keyed by what the graph depends on: the sources of the graph and its kernels, the version of MAX, and
the processor; for MAX's own operations also the sizes and flags of the model.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from max_gpt2.config import GPT2Config, Kernels
from max_gpt2.model.scoring import FusedScoringModel, LogitsScoringModel, ScoringModel
from max_gpt2.model.session import CompiledModel, HiddenStates, Run
from max_gpt2.model.stages import StagedHiddenStates, Stages
from max_gpt2.model.table import ModelTable
from max_gpt2.system.locks import exclusive
from max_gpt2.system.machine import cache_folder, with_timer_slack
from max_gpt2.weights import Weights
from max_gpt2.weights.quantise import float32_weights

if TYPE_CHECKING:  # importing max.experimental takes most of a second
    from max.driver import Buffer
    from max.engine import CompiledModel as CompiledArtifact
    from max.experimental.compilation import CompiledCallable

    from max_gpt2.model.compile import Kind

Loaded = TypeVar("Loaded")

#: The modules that build each kind of graph, beside the kernels.
_MOJO_SOURCES = ("compile.py", "ops_mojo.py", "batch.py")
_GRAPH_SOURCES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("mojo", "paged", "scoring", "stages"), _MOJO_SOURCES),
    "builtin": ("builtin.py", "ops_max.py", "transformer.py", "batch.py"),
}
#: The fields of a config that do not change the graph of MAX's operations.
_NOT_IN_THE_GRAPH = ("bos_token_id", "eos_token_ids", "tie_word_embeddings")


def load_or_compile(config: GPT2Config, weights: Weights, kernels: Kernels = "mojo") -> CompiledModel:
    """Return a model for any number of sequences of any length.

    `weights` is canonical; its arrays are used in place, not copied. `kernels` "builtin" needs float32.
    """
    if kernels == "builtin":
        return CompiledModel(config, kernels, _builtin(config, float32_weights(weights)), weights)
    return CompiledModel(config, kernels, _with_table(config, weights, "mojo"), weights)


def load_or_compile_scoring(config: GPT2Config, weights: Weights, kernels: Kernels = "mojo") -> ScoringModel:
    """Return a model that scores windows; `weights` is used as in `load_or_compile`."""
    if kernels == "builtin":
        return LogitsScoringModel(load_or_compile(config, weights, kernels))
    return FusedScoringModel(config, _with_table(config, weights, "scoring", one_cache=True), weights)


def load_or_compile_paged(config: GPT2Config, weights: Weights) -> Run:
    """Return the graph "paged" of `max_gpt2.model.compile` with its model; `weights` as in `load_or_compile`."""
    return _with_table(config, weights, "paged")


def load_or_compile_stages() -> dict[str, Run]:
    """Return the graphs "stages" of `max_gpt2.model.compile` by name, as functions of buffers."""
    return {name: with_timer_slack(run) for name, run in _mojo_graphs("stages").items()}


def load_hidden_states(config: GPT2Config, weights: Weights, kernels: Kernels = "mojo") -> HiddenStates:
    """Return a model that returns all hidden states; `weights` is used as in `load_or_compile`."""
    if kernels == "mojo":
        return StagedHiddenStates(Stages(config, load_or_compile_stages(), weights))
    from max_gpt2.model.builtin import compile_hidden_states

    return compile_hidden_states(config, float32_weights(weights))


@dataclass(frozen=True)
class _RunModel:
    """A graph whose first inputs, the model, are given. It keeps the weights, whose addresses the model holds."""

    run: Run
    table: ModelTable
    model: "list[Buffer]"

    def __call__(self, *inputs: "Buffer") -> "list[Buffer]":
        return self.run(*self.model, *inputs)


def _with_table(config: GPT2Config, weights: Weights, kind: "Kind", *, one_cache: bool = False) -> Run:
    """Return a graph with its model."""
    (graph,) = _mojo_graphs(kind).values()
    table = ModelTable(config, dict(weights), one_cache)  # a copy, so that no weight can be removed
    return _RunModel(with_timer_slack(graph), table, table.buffers())


def _mojo_graphs(kind: "Kind") -> dict[str, Run]:
    """Return the graphs of one kind by name."""

    def compile_() -> "tuple[dict[str, Run], CompiledArtifact]":
        from max_gpt2.model import compile as compiler

        artifact = compiler.compile_graph(kind)
        return load(artifact), artifact

    def load(artifact: "CompiledArtifact") -> dict[str, Run]:
        from max.driver import CPU
        from max.engine import InferenceSession

        session = InferenceSession(devices=[CPU()])
        return {name: model.execute for name, model in session.init_all(artifact).items()}

    return _load_or_compile(graph_key(kind), compile_, load)


def _builtin(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> Run:
    """Return the graph of MAX's own operations, which contains the weights."""

    def compile_() -> "tuple[Run, CompiledCallable[..., Any]]":
        from max_gpt2.model.builtin import compile_builtin

        compiled = compile_builtin(config, state_dict)
        return compiled.execute_raw, compiled

    def load(artifact: "CompiledArtifact") -> Run:
        from max.driver import CPU
        from max.engine import InferenceSession

        session = InferenceSession(devices=[CPU()])
        return session.init(artifact, weights_registry=dict(state_dict))

    return with_timer_slack(_load_or_compile(graph_key("builtin", config), compile_, load))


class _Exportable(Protocol):
    """A compiled graph that can be written to a file."""

    def export_mef(self, path: Path, /) -> None:
        """Write the graph."""
        ...


def _load_or_compile(
    key: str,
    compile_: Callable[[], tuple[Loaded, _Exportable]],
    load: "Callable[[CompiledArtifact], Loaded]",
) -> Loaded:
    """Return what `load` makes of a file, or what `compile_` returns along with the content of a new file."""
    folder = compiled_files()
    if folder is None:
        return compile_()[0]
    if (found := _find(folder, key, load)) is not None:
        return found
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    # Workers that start together need the same graph: the first one compiles it, and the others load its file.
    with exclusive(folder / f".{key}.lock"):
        if (found := _find(folder, key, load)) is not None:
            return found
        loaded, compiled = compile_()
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "compiled.mef"
            compiled.export_mef(file)
            save(file.read_bytes(), folder, key)
    return loaded


def _find(folder: Path, key: str, load: "Callable[[CompiledArtifact], Loaded]") -> Loaded | None:
    """Return the graphs with this key from the folder, or None."""
    return next((found for path in folder.glob(f"{key}-*.mef") if (found := _read(path, load)) is not None), None)


def compiled_files() -> Path | None:
    """Return the folder of the compiled graphs, within the cache folder of MAX; None if MAX is not installed.

    The folder may not exist yet.
    """
    cache = cache_folder()
    return cache / "max-gpt2" if cache else None


def graph_key(graph: "Kind | Literal['builtin']", config: GPT2Config | None = None) -> str:
    """Return a digest of everything that a compiled graph depends on: the first part of its file name.

    Only "builtin" depends on a config.
    """
    fields = {} if config is None else asdict(config)
    fields = {name: value for name, value in fields.items() if name not in _NOT_IN_THE_GRAPH}
    sources = Path(__file__).parent
    files = sorted(path for path in sources.rglob("*") if path.suffix == ".mojo" or path.name in _GRAPH_SOURCES[graph])
    parts = [json.dumps(fields, sort_keys=True), graph, metadata.version("max"), _processor()]
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in files:
        digest.update(f"{path.relative_to(sources)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def save(content: bytes, folder: Path, key: str) -> None:
    """Write a file into the folder atomically; if that fails, the next start compiles again."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            file = Path(partial) / "mef"
            file.write_bytes(content)
            file.replace(folder / f"{key}-{_digest(content)}.mef")
    except OSError:
        pass


def _read(path: Path, load: "Callable[[CompiledArtifact], Loaded]") -> Loaded | None:
    """Load the graphs of a file; None if it is damaged, which the digest of the content in its name shows."""
    from max.engine import read

    try:
        content = path.read_bytes()
        if path.stem.rpartition("-")[2] != _digest(content):
            path.unlink()
            return None
        return load(read(path))
    except (OSError, RuntimeError, ValueError):
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _processor() -> str:
    """Return the model and flags of the processor, and the number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor(), platform.version()]
    names = ("model name", "flags", "Features", "CPU part")
    kinds = sorted({line for line in lines if line.startswith(names)}) or lines
    return "\n".join([platform.machine(), platform.system(), str(os.cpu_count()), *kinds])
