"""Weights are written one tensor at a time."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType
from safetensors.numpy import load_file

from fixtures.checkpoints import Tensors, write_checkpoint
from fixtures.formats import linear_state, write_gguf
from max_gpt2.checkpoint import inspect_checkpoint
from max_gpt2.checkpoint.convert import size, stored_layout, write_weights
from max_gpt2.checkpoint.gguf_convert import convert_to_gguf

#: Many small layers.
DEEP = {"n_layer": 16, "n_embd": 96}


def deep_safetensors(folder: Path) -> Path:
    return write_checkpoint(folder / "deep", **DEEP)


def deep_gguf(folder: Path) -> Path:
    return write_gguf(folder / "deep.gguf", linear_state(**DEEP), quantised=GGMLQuantizationType.Q8_0)


@pytest.mark.parametrize("source", [deep_safetensors, deep_gguf])
def test_peak_memory_is_a_few_tensors(tmp_path: Path, source: Callable[[Path], Path]) -> None:
    _, _, plan = inspect_checkpoint(source(tmp_path))
    write_weights(plan, tmp_path / "first", lambda _done, _total: None)  # warm up caches of Python
    tracemalloc.start()
    write_weights(plan, tmp_path / "weights", lambda _done, _total: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    written: Tensors = load_file(tmp_path / "weights")
    largest, total = max(value.nbytes for value in written.values()), size(stored_layout(plan))
    assert total == sum(value.nbytes for value in written.values()) > 40 * largest
    assert peak < 5 * largest


@pytest.mark.parametrize("type_", ["f32", "q8_0"])
def test_peak_memory_of_gguf_is_a_few_tensors(tmp_path: Path, type_: str) -> None:
    source = deep_safetensors(tmp_path)
    convert_to_gguf(source, tmp_path / "first.gguf", type_)  # warm up caches of Python
    largest = max(value.nbytes for value in load_file(source / "model.safetensors").values())
    tracemalloc.start()
    total = convert_to_gguf(source, tmp_path / "second.gguf", type_).bytes
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > (40 if type_ == "f32" else 10) * largest
    assert peak < 6 * largest
