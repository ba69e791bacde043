import weakref

import numpy as np
import pytest

from fixtures.checkpoints import random_ids, reference_logits, reference_model
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.model import CompiledModel
from max_gpt2.model.compile_cache import load_or_compile
from solutions.solution_13 import CompiledGPT2

SHAPES = [(1, 1), (2, 7), (3, 67)]


@pytest.mark.parametrize(("batch", "seq"), SHAPES)
def test_logits_match_pytorch(tiny_model: CompiledModel, batch: int, seq: int) -> None:
    ids = random_ids(batch, seq)
    expected = reference_logits(reference_model(), ids)
    np.testing.assert_allclose(tiny_model.logits(ids), expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 1  # so that 1e-5 is a tight tolerance


@pytest.mark.slow  # compiles a graph of MAX's own matmul kernels
@pytest.mark.parametrize(("batch", "seq"), SHAPES)
def test_builtin_kernels_match_pytorch(builtin_model: CompiledModel, batch: int, seq: int) -> None:
    ids = random_ids(batch, seq)
    np.testing.assert_allclose(builtin_model.logits(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-5)


@pytest.mark.slow  # compiles a graph of MAX's own matmul kernels
@pytest.mark.parametrize("chunks", [[1] * 9, [20, 30, 1, 16]])
def test_builtin_kernels_use_the_cache(builtin_model: CompiledModel, chunks: list[int]) -> None:
    session, ids = builtin_model.session(3, 67), random_ids(2, sum(chunks))
    expected = reference_logits(reference_model(), ids)
    for end, chunk in zip(np.cumsum(chunks), chunks, strict=True):
        found = session.extend({slot: row[end - chunk : end].tolist() for slot, row in zip((2, 0), ids, strict=True)})
        np.testing.assert_allclose(np.concatenate(found), expected[:, end - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("batch", "seq"), SHAPES)
def test_tutorial_model_matches_pytorch(tutorial_model: CompiledGPT2, batch: int, seq: int) -> None:
    ids = random_ids(batch, seq)
    np.testing.assert_allclose(tutorial_model(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-5)


def test_first_selects_the_rows_of_logits(tiny_model: CompiledModel) -> None:
    ids = random_ids(2, 9)
    np.testing.assert_allclose(tiny_model.logits(ids, first=6), tiny_model.logits(ids)[:, 6:], rtol=0, atol=1e-6)


def test_weights_are_used_in_place(tiny_checkpoint: Checkpoint, tiny_model: CompiledModel) -> None:
    ids = random_ids(1, 4)
    before = tiny_model.logits(ids)
    bias = tiny_checkpoint.state_dict["transformer.ln_f.bias"]
    bias += 1
    try:
        assert np.abs(tiny_model.logits(ids) - before).max() > 0.1
    finally:
        bias -= 1


def test_model_keeps_its_weights_alive(tiny_checkpoint: Checkpoint) -> None:
    """The kernels know only the addresses of the weights."""
    weights = {name: array.copy() for name, array in tiny_checkpoint.state_dict.items()}
    alive = {name: weakref.ref(array) for name, array in weights.items()}
    model = load_or_compile(tiny_checkpoint.config, weights)
    weights.clear()
    assert all(reference() is not None for reference in alive.values())
    ids = random_ids(1, 4)
    np.testing.assert_allclose(model.logits(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-5)
