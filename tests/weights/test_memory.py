"""Copies of mapped weights."""

from pathlib import Path

import numpy as np

from fixtures.checkpoints import write_checkpoint
from max_gpt2.checkpoint import LoadOptions, load_checkpoint
from max_gpt2.checkpoint.gguf_convert import convert_to_gguf
from max_gpt2.weights import LM_HEAD, WTE
from max_gpt2.weights.memory import copy_mapped, is_mapped
from max_gpt2.weights.types import Quantised, Weight


def values(weight: Weight) -> np.ndarray:
    return weight.data if isinstance(weight, Quantised) else weight


def assert_copied(weights: dict[str, Weight]) -> None:
    """Check that the copies equal the weights, bit for bit, and that only weights in memory are the same object."""
    copies = copy_mapped(weights)
    assert copies.keys() == weights.keys()
    assert any(is_mapped(values(weight)) for weight in weights.values())
    for name, copy in copies.items():
        weight = weights[name]
        assert not is_mapped(values(copy)), name
        assert (copy is weight) == (not is_mapped(values(weight))), name
        np.testing.assert_array_equal(values(copy), values(weight), strict=True, err_msg=name)
    assert copies[LM_HEAD] is copies[WTE]


def test_mapped_weights_are_copied_once(tmp_path: Path) -> None:
    assert_copied(dict(load_checkpoint(write_checkpoint(tmp_path / "tiny"), LoadOptions(weights="auto")).weights))


def test_mapped_blocks_of_a_gguf_file_are_copied(tmp_path: Path) -> None:
    """The blocks of the embedding are mapped; those of linear weights have been rearranged in memory."""
    convert_to_gguf(write_checkpoint(tmp_path / "tiny"), tmp_path / "tiny.gguf", "q8_0")
    weights = dict(load_checkpoint(tmp_path / "tiny.gguf", LoadOptions(weights="auto")).weights)
    assert any(isinstance(weight, Quantised) for weight in weights.values())
    assert_copied(weights)
