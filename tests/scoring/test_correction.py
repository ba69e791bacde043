"""The correction for the leading space, against its formula and against published values."""

import json
import math
import re

import numpy as np
import pytest

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import RequestError
from max_gpt2.scoring import Score, ScoreOptions, Scorer, score_texts
from max_gpt2.scoring.correction import boundary_mask, correct
from max_gpt2.tokenizer import GPT2Tokenizer
from tests.scoring.oracle import distributions

WINDOW = 67
TEXT = "The quick dog, being lazy,  lets it\n jump over\tthe times? "
#: Surprisals in bits of gpt2-xl, published with minicons: without and with the correction (examples/bow-correction.py).
PUBLISHED = [
    (["I", " was", " a", " mat", "ron", " in", " France", "."], [5.85346794128418, 4.284247398376465, 4.673775672912598,
      16.344608306884766, 1.7366491556167603, 2.1214966773986816, 11.425250053405762, 3.4500668048858643],
     [6.3007493019104, 3.8401684761047363, 4.676173686981201, 16.339006423950195, 2.110022783279419, 1.7500823736190796,
      11.423291206359863, 3.6690571308135986]),
    (["I", " was", " a", " mat", " in", " France", "."], [5.85346794128418, 4.284247398376465, 4.673775672912598,
      16.344608306884766, 10.782632827758789, 10.712746620178223, 3.0245020389556885],
     [6.3007493019104, 3.8401684761047363, 4.676173686981201, 21.335359573364258, 5.801166534423828, 10.697859764099121,
      3.333509683609009]),
]  # fmt: skip


@pytest.mark.parametrize(("tokens", "before", "after"), PUBLISHED)
def test_published_values_are_reproduced(tokens: list[str], before: list[float], after: list[float]) -> None:
    starts_word = np.array([one.startswith(" ") for one in tokens])
    at_boundary = [*starts_word[1:], True]
    # The published values determine log p(B) at each boundary from left to right, except that the sum over the text
    # must agree as well: the last boundary is determined twice.
    boundaries, previous = [], 0.0
    for old, new, boundary in zip(before, after, at_boundary, strict=True):
        current = new - old + previous  # the surprisal of B after this token
        assert boundary or current == pytest.approx(0, abs=2e-6)
        boundaries.append(current)
        previous = current if boundary else 0.0
    assert boundaries[-1] == pytest.approx(sum(after) - sum(before), abs=1e-5)
    assert min(boundaries) > -2e-6
    found = correct(-np.array(before), -np.array(boundaries), starts_word)
    np.testing.assert_allclose(-found, after, rtol=0, atol=3e-6)


def test_boundaries_of_both_published_texts_agree() -> None:
    """The first four boundaries of both texts have the same context, so the same values reproduce both texts."""
    (_, before, after), (tokens, other_before, other_after) = PUBLISHED
    shared = np.cumsum(np.array(after[:3]) - before[:3])
    np.testing.assert_allclose(np.cumsum(np.array(other_after[:3]) - other_before[:3]), shared, atol=1e-6)
    starts_word = np.array([one.startswith(" ") for one in tokens])
    mat = other_after[3] - other_before[3] + shared[2]  # p(B) after "mat" explains both "mat" and "in"
    inside = other_after[4] - other_before[4] + mat
    last = sum(other_after) - sum(other_before)
    found = correct(-np.array(other_before), -np.array([*shared, mat, inside, 9.0, last]), starts_word)
    np.testing.assert_allclose(-found[3:5], [21.335360, 5.801167], rtol=0, atol=2e-6)
    np.testing.assert_allclose(-found, other_after, rtol=0, atol=1e-5)


def spelled_with_a_space(checkpoint: Checkpoint) -> np.ndarray:
    """Return the ids that the file of the vocabulary spells with a leading space."""
    mask = np.zeros(checkpoint.config.vocab_size, dtype=bool)
    for token, id_ in json.loads(checkpoint.tokenizer.json)["model"]["vocab"].items():
        mask[id_] = token[0] == "Ġ"
    return mask


def test_mask_has_the_tokens_with_a_leading_space(tiny_checkpoint: Checkpoint) -> None:
    mask = boundary_mask(tiny_checkpoint.tokenizer, tiny_checkpoint.config.vocab_size)
    assert mask.tolist() == spelled_with_a_space(tiny_checkpoint).tolist()
    assert 5 < mask.sum() < 100


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("repeats", [1, 9])
def test_words_match_the_published_formula(
    scorer: Scorer, tiny_checkpoint: Checkpoint, bos: bool, repeats: int
) -> None:
    text = TEXT * repeats
    mask = spelled_with_a_space(tiny_checkpoint)
    options = ScoreOptions(bos=bos, unit="word", word_boundary_correction=True)
    (scored,) = score_texts(scorer, [text], options)
    assert isinstance(scored, Score)
    sequence = [scorer.tokenizer.start_id] * bos + scored.tokens
    (rows,) = distributions([sequence], WINDOW, WINDOW // 2)
    boundary = np.log(np.exp(rows[:, mask]).sum(axis=1))  # log p(B) after each id of the sequence
    ends = [sequence[at] for at in range(len(sequence))]
    expected = []
    for one in scored.units:
        tokens = range(one.first_token + bos, one.first_token + bos + one.tokens)  # positions in the sequence
        # A split within the unit cancels; the first and the last boundary remain.
        logprob = sum(rows[at - 1, ends[at]] for at in tokens if at > 0)
        if tokens[0] > bos and mask[ends[tokens[0]]]:
            logprob -= boundary[tokens[0] - 1]
        if tokens[-1] + 1 == len(ends) or mask[ends[tokens[-1] + 1]]:
            logprob += boundary[tokens[-1]]
        if tokens[0] == 0:  # without BOS, the first token has no probability, and nothing can be added to it
            logprob = sum(rows[at - 1, ends[at]] for at in tokens if at > 0)
        expected.append(logprob)
    found = [one.logprob for one in scored.units]
    assert len(found) == len(re.findall(r"\S+", text))
    first = 0 if bos else 1
    np.testing.assert_allclose(found[first:], expected[first:], rtol=0, atol=1e-3)


def test_all_boundaries_but_the_last_cancel(scorer: Scorer) -> None:
    plain, corrected = (
        next(score_texts(scorer, [TEXT], ScoreOptions(word_boundary_correction=correction)))
        for correction in (False, True)
    )
    assert isinstance(plain, Score)
    assert isinstance(corrected, Score)
    (rows,) = distributions([[scorer.tokenizer.start_id, *plain.tokens]], WINDOW, WINDOW // 2)
    last = math.log(np.exp(rows[-1][boundary_mask(scorer.tokenizer, scorer.config.vocab_size)]).sum())
    assert corrected.logprob - plain.logprob == pytest.approx(last, abs=1e-4)


def test_underflow_of_a_boundary_stays_finite() -> None:
    logprobs = np.array([-1.0, -800.0, -2.0])
    found = correct(logprobs, np.array([-np.inf, -0.5, -0.1]), np.array([False, True, False]))
    assert found.tolist() == [-801.0, 0.0, -2.1]


def test_tokenizer_without_leading_spaces_is_rejected(tiny_checkpoint: Checkpoint) -> None:
    content = json.loads(tiny_checkpoint.tokenizer.json)
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {token.replace("Ġ", "ǁ"): id_ for token, id_ in vocab.items()}
    content["model"]["merges"] = []
    with pytest.raises(RequestError, match="no token that starts with a space"):
        boundary_mask(GPT2Tokenizer(json.dumps(content)), 311)
