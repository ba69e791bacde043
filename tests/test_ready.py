"""The files of compiled graphs: found again, refused when damaged, and told apart."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.model import CompiledModel, compile_cache
from max_gpt2.model import compile as compile_module
from max_gpt2.model.compile_cache import key_of, ready_model
from tests.checkpoints import random_ids, reference_logits, reference_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compile_cache, "cache_folder", lambda: tmp_path)
    return tmp_path / "max-gpt2"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compiled."""
    calls: list[str] = []
    compile_graph = compile_module.compile_graph

    def counted(*arguments: object) -> object:
        calls.append("a graph")
        return compile_graph(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compile_module, "compile_graph", counted)
    return calls


def test_it_is_compiled_once(
    tiny_checkpoint: Checkpoint, tiny_model: CompiledModel, folder: Path, compiled: list[str]
) -> None:
    del tiny_model  # so that MAX has it
    config, ids = tiny_checkpoint.config, random_ids(2, 9)
    first = ready_model(config, tiny_checkpoint.state_dict)
    (path,) = folder.iterdir()
    assert path.name.startswith(key_of(config, "mojo"))
    again = ready_model(config, tiny_checkpoint.state_dict)
    assert compiled == ["a graph"]
    np.testing.assert_array_equal(again.logits(ids), first.logits(ids))
    np.testing.assert_allclose(again.logits(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-5)
    others = {name: 2 * value for name, value in tiny_checkpoint.state_dict.items()}
    assert not np.allclose(ready_model(config, others).logits(ids), first.logits(ids))
    assert compiled == ["a graph"]


@pytest.mark.parametrize("damage", ["cut off", "a byte", "empty"])
def test_a_damaged_file_is_made_anew(
    tiny_checkpoint: Checkpoint, tiny_model: CompiledModel, folder: Path, compiled: list[str], damage: str
) -> None:
    del tiny_model
    config = tiny_checkpoint.config
    ready_model(config, tiny_checkpoint.state_dict)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    broken = {"cut off": whole[:-100], "a byte": whole[:5000] + b"!" + whole[5001:], "empty": b""}[damage]
    path.write_bytes(broken)
    ready_model(config, tiny_checkpoint.state_dict)
    assert compiled == ["a graph"] * 2
    (path,) = folder.iterdir()
    assert path.stat().st_size == len(whole)


def test_a_folder_that_cannot_be_written_is_no_error(
    tiny_checkpoint: Checkpoint, tiny_model: CompiledModel, folder: Path, compiled: list[str]
) -> None:
    del tiny_model
    folder.write_text("a file in its place")
    for _ in range(2):
        assert ready_model(tiny_checkpoint.config, tiny_checkpoint.state_dict).config == tiny_checkpoint.config
    assert len(compiled) == 2


def test_what_decides_about_the_graph_decides_about_the_file(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_checkpoint.config
    key = key_of(config, "mojo")
    assert key_of(dataclasses.replace(config, eos_token_ids=(1,), tie_word_embeddings=False), "mojo") == key
    others = {key_of(dataclasses.replace(config, scale_attn_weights=False), "mojo"), key_of(config, "builtin")}
    monkeypatch.setattr(compile_cache.metadata, "version", lambda _: "27.0")
    others.add(key_of(config, "mojo"))
    monkeypatch.undo()
    monkeypatch.setattr(compile_cache, "_processor", lambda: "another")
    others.add(key_of(config, "mojo"))
    assert len(others - {key}) == 4
