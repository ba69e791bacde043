import numpy as np
import pytest

from fixtures.checkpoints import random_ids, reference_logits, reference_model
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.model import CompiledModel
from solutions.solution_13 import CompiledGPT2

SHAPES = [(1, 1), (2, 7), (3, 67)]


@pytest.mark.parametrize(("batch", "seq"), SHAPES)
def test_logits_are_those_of_pytorch(tiny_model: CompiledModel, batch: int, seq: int) -> None:
    ids = random_ids(batch, seq)
    expected = reference_logits(reference_model(), ids)
    np.testing.assert_allclose(tiny_model.logits(ids), expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 1  # the bound above means something


@pytest.mark.slow  # compiles a graph of MAX's own matmul kernels
@pytest.mark.parametrize(("batch", "seq"), SHAPES)
def test_maxs_own_operations_compute_the_same(builtin_model: CompiledModel, batch: int, seq: int) -> None:
    ids = random_ids(batch, seq)
    np.testing.assert_allclose(builtin_model.logits(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-5)


@pytest.mark.slow  # compiles a graph of MAX's own matmul kernels
@pytest.mark.parametrize("pieces", [[1] * 9, [20, 30, 1, 16]])
def test_maxs_own_operations_have_a_cache_too(builtin_model: CompiledModel, pieces: list[int]) -> None:
    session, ids = builtin_model.session(3, 67), random_ids(2, sum(pieces))
    expected = reference_logits(reference_model(), ids)
    for end, piece in zip(np.cumsum(pieces), pieces, strict=True):
        found = session.extend({slot: row[end - piece : end].tolist() for slot, row in zip((2, 0), ids, strict=True)})
        np.testing.assert_allclose(np.concatenate(found), expected[:, end - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("batch", "seq"), SHAPES)
def test_the_tutorials_model_computes_the_same(tutorial_model: CompiledGPT2, batch: int, seq: int) -> None:
    ids = random_ids(batch, seq)
    np.testing.assert_allclose(tutorial_model(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-5)


def test_only_the_positions_asked_for_are_scored(tiny_model: CompiledModel) -> None:
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
