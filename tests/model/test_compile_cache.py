"""Compiled graphs are cached in files, reused, rebuilt when damaged, and keyed by everything they depend on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from max.engine import CompiledModel as Artifact
from max.engine import read

from fixtures.checkpoints import random_ids, reference_logits, reference_model
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.model import CompiledModel, compile_cache
from max_gpt2.model import compile as compile_module
from max_gpt2.model.compile_cache import graph_key, load_or_compile


@pytest.fixture(scope="module")
def artifact(tiny_checkpoint: Checkpoint, tiny_model: CompiledModel) -> Artifact:
    """A compiled graph: that of `tiny_model`, from the real cache."""
    del tiny_model
    folder = compile_cache.compiled_files()
    assert folder is not None
    (path,) = folder.glob(f"{graph_key('mojo')}-*.mef")
    return read(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compile_cache, "cache_folder", lambda: tmp_path)
    return tmp_path / "max-gpt2"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, artifact: Artifact) -> list[str]:
    """Record one entry per compiled graph; to compile takes half a minute, so the graph is always the same."""
    calls: list[str] = []

    def counted(kind: str) -> Artifact:
        assert kind == "mojo"
        calls.append("a graph")
        return artifact

    monkeypatch.setattr(compile_module, "compile_graph", counted)
    return calls


def test_graph_is_compiled_once(tiny_checkpoint: Checkpoint, folder: Path, compiled: list[str]) -> None:
    config, ids = tiny_checkpoint.config, random_ids(2, 9)
    first = load_or_compile(config, tiny_checkpoint.state_dict)
    (path,) = folder.iterdir()
    assert path.name.startswith(graph_key("mojo"))
    again = load_or_compile(config, tiny_checkpoint.state_dict)
    assert compiled == ["a graph"]
    np.testing.assert_array_equal(again.logits(ids), first.logits(ids))
    np.testing.assert_allclose(again.logits(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-5)
    others = {name: 2 * value for name, value in tiny_checkpoint.state_dict.items()}
    assert not np.allclose(load_or_compile(config, others).logits(ids), first.logits(ids))
    assert compiled == ["a graph"]


@pytest.mark.parametrize("damage", ["cut off", "a byte", "empty"])
def test_damaged_file_is_rebuilt(tiny_checkpoint: Checkpoint, folder: Path, compiled: list[str], damage: str) -> None:
    config = tiny_checkpoint.config
    load_or_compile(config, tiny_checkpoint.state_dict)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    broken = {"cut off": whole[:-100], "a byte": whole[:5000] + b"!" + whole[5001:], "empty": b""}[damage]
    path.write_bytes(broken)
    load_or_compile(config, tiny_checkpoint.state_dict)
    assert compiled == ["a graph"] * 2
    (path,) = folder.iterdir()
    assert path.stat().st_size == len(whole)


def test_unwritable_folder_is_not_an_error(tiny_checkpoint: Checkpoint, folder: Path, compiled: list[str]) -> None:
    folder.write_text("a file instead of a folder")
    for _ in range(2):
        assert load_or_compile(tiny_checkpoint.config, tiny_checkpoint.state_dict).config == tiny_checkpoint.config
    assert len(compiled) == 2


def test_key_depends_on_config_kernels_version_and_processor(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_checkpoint.config
    key = graph_key("mojo")
    builtin = graph_key("builtin", config)
    assert graph_key("builtin", dataclasses.replace(config, eos_token_ids=(1,), tie_word_embeddings=False)) == builtin
    others = {builtin, graph_key("builtin", dataclasses.replace(config, scale_attn_weights=False))}
    monkeypatch.setattr(compile_cache.metadata, "version", lambda _: "27.0")
    others.add(graph_key("mojo"))
    monkeypatch.undo()
    monkeypatch.setattr(compile_cache, "_processor", lambda: "another")
    others.add(graph_key("mojo"))
    assert len(others - {key}) == 4
