"""Texts that grow in pieces: what is in the cache is not computed again, and nothing changes by it."""

import numpy as np
import pytest

from max_gpt2.model import CompiledModel
from max_gpt2.model.inputs import causal_mask, positions
from tests.checkpoints import random_ids, reference_logits, reference_model


@pytest.mark.parametrize("pieces", [[67], [1] * 9, [5, 1, 1, 4], [20, 30, 1, 16]])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_logits_of_pieces_are_those_of_the_whole(tiny_model: CompiledModel, batch: int, pieces: list[int]) -> None:
    ids = random_ids(batch, sum(pieces))
    session = tiny_model.session(batch, sum(pieces))
    found, start = [], 0
    for piece in pieces:
        found.append(session.extend(ids[:, start : start + piece]))
        start += piece
    assert session.length == start
    expected = reference_logits(reference_model(), ids)
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=0, atol=1e-5)


def test_only_the_positions_asked_for_are_returned(tiny_model: CompiledModel) -> None:
    ids = random_ids(2, 12)
    session = tiny_model.session(2, 12)
    session.extend(ids[:, :5], first=4)
    expected = reference_logits(reference_model(), ids)[:, 9:]
    np.testing.assert_allclose(session.extend(ids[:, 5:], first=4), expected, rtol=0, atol=1e-5)


def test_sessions_do_not_know_of_each_other(tiny_model: CompiledModel) -> None:
    ids = random_ids(2, 8)
    one, other = tiny_model.session(1, 20), tiny_model.session(1, 8)
    one.extend(ids[:1, :5])
    other.extend(ids[1:, :7])
    last = [one.extend(ids[:1, 5:])[:, -1], other.extend(ids[1:, 7:])[:, -1]]
    expected = reference_logits(reference_model(), ids)[:, -1]
    np.testing.assert_allclose(np.concatenate(last), expected, rtol=0, atol=1e-5)


def test_the_mask_hides_what_comes_later() -> None:
    mask = causal_mask(2, 3, 2)
    assert mask.shape == (2, 1, 2, 5)
    assert mask[1, 0].tolist() == [[0, 0, 0, 0, -np.inf], [0, 0, 0, 0, 0]]
    assert not causal_mask(1, 6, 1).any()


def test_positions_go_on_after_those_of_the_cache() -> None:
    assert positions(2, 3, 4).tolist() == [[3, 4, 5, 6]] * 2
