"""Sequences extended in chunks get the logits of a single pass: the key-value cache changes nothing."""

import numpy as np
import pytest

from fixtures.checkpoints import random_ids, reference_logits, reference_model
from max_gpt2.model import CompiledModel
from max_gpt2.model.batch import RaggedBatch, causal_mask

SEQUENCES = random_ids(3, 67).tolist()
#: Reference logits after every prefix, [3, 67, 311].
EXPECTED = reference_logits(reference_model(), np.array(SEQUENCES))


@pytest.mark.parametrize("chunks", [[67], [1] * 67, [5, 1, 1, 4], [20, 30, 1, 16], [48, 1, 18], [63, 1, 1, 1, 1]])
@pytest.mark.parametrize("batch", [1, 3])
def test_chunked_prefill_is_bitwise_identical(tiny_model: CompiledModel, batch: int, chunks: list[int]) -> None:
    session = tiny_model.session(batch, sum(chunks))
    found: list[list[np.ndarray]] = [[] for _ in range(batch)]
    start = 0
    for chunk in chunks:
        new = {row: SEQUENCES[row][start : start + chunk] for row in range(batch)}
        for row, logits in enumerate(session.extend(new, num_logits=None)):
            found[row].append(logits)
        start += chunk
    assert session.lengths.tolist() == [start] * batch
    for row in range(batch):
        whole = tiny_model.session(1, start).extend({0: SEQUENCES[row][:start]}, num_logits=None)[0]
        np.testing.assert_array_equal(np.concatenate(found[row]), whole)
        np.testing.assert_allclose(whole, EXPECTED[row, :start], rtol=0, atol=1e-5)


def test_sequences_of_different_lengths_extend_independently(tiny_model: CompiledModel) -> None:
    session = tiny_model.session(5, 67)
    steps = [{4: 3, 0: 50}, {0: 1, 2: 9, 4: 1}, {2: 1}, {4: 40, 0: 1, 2: 5}]
    rows, lengths = {0: 0, 2: 1, 4: 2}, dict.fromkeys((0, 2, 4), 0)
    for step in steps:
        new = {slot: SEQUENCES[rows[slot]][lengths[slot] : lengths[slot] + count] for slot, count in step.items()}
        for slot, logits in zip(step, session.extend(new), strict=True):
            lengths[slot] += step[slot]
            np.testing.assert_allclose(logits, EXPECTED[rows[slot], lengths[slot] - 1 : lengths[slot]], atol=1e-5)
    assert session.lengths.tolist() == [52, 0, 15, 0, 44]


def test_num_logits_returns_the_last_rows_of_each_sequence(tiny_model: CompiledModel) -> None:
    found = tiny_model.session(2, 12).extend({1: SEQUENCES[0][:2], 0: SEQUENCES[1][:12]}, num_logits=3)
    np.testing.assert_allclose(found[0], EXPECTED[0, :2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1], EXPECTED[1, 9:12], rtol=0, atol=1e-5)


def test_copied_sequence_is_independent(tiny_model: CompiledModel) -> None:
    session = tiny_model.session(3, 67)
    session.extend({1: SEQUENCES[0][:30]})
    length = int(session.lengths[1])
    session.copy(1, 0, length)
    session.copy(1, 1, length)
    session.extend({1: SEQUENCES[1][30:35]})
    found = session.extend({0: SEQUENCES[0][30:31]})[0]
    np.testing.assert_allclose(found[0], EXPECTED[0, 30], rtol=0, atol=1e-5)
    assert session.lengths.tolist() == [31, 35, 0]


def test_cleared_slot_is_reusable(tiny_model: CompiledModel) -> None:
    session = tiny_model.session(2, 67)
    session.extend({0: SEQUENCES[0], 1: SEQUENCES[2][:4]})
    session.clear(0)
    found = session.extend({0: SEQUENCES[1][:20], 1: SEQUENCES[2][4:5]})
    np.testing.assert_allclose(found[0][0], EXPECTED[1, 19], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1][0], EXPECTED[2, 4], rtol=0, atol=1e-5)


def test_sessions_are_independent(tiny_model: CompiledModel) -> None:
    one, other = tiny_model.session(1, 20), tiny_model.session(1, 8)
    one.extend({0: SEQUENCES[0][:5]})
    other.extend({0: SEQUENCES[1][:7]})
    last = [one.extend({0: SEQUENCES[0][5:8]})[0][0], other.extend({0: SEQUENCES[1][7:8]})[0][0]]
    np.testing.assert_allclose(last, EXPECTED[:2, 7], rtol=0, atol=1e-5)


def test_causal_mask_hides_later_positions() -> None:
    assert causal_mask(3, 2).tolist() == [[0, 0, 0, 0, -np.inf], [0, 0, 0, 0, 0]]
    assert not causal_mask(6, 1).any()


def test_ragged_batch_has_the_arrays_of_the_graph() -> None:
    new = RaggedBatch.of({2: [7, 8, 9], 0: [5]}, np.array([4, 9, 1]), num_logits=2)
    assert [array.tolist() for array in new.arrays] == [
        [7, 8, 9, 5],  # ids
        [1, 2, 3, 4],  # positions
        [0, 3, 4],  # row_offsets
        [1, 4],  # cache_lengths
        [2, 0],  # slots
        [1, 2, 3],  # logits_indices
    ]
    assert {array.dtype for array in new.arrays} == {np.dtype(np.int64)}
