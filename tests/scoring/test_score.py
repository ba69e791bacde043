"""Scores of 500 texts against an independent oracle."""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from max_gpt2 import GPT2
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import RequestError
from max_gpt2.generation import Engine
from max_gpt2.model import CompiledModel
from max_gpt2.scoring import Score, ScoreOptions, Scorer, Unit, score_texts
from tests.scoring.oracle import context_start, distributions, logprobs_of, units_of_tokens
from tests.scoring.texts import sample_texts

WINDOW = 67
LONGEST = 5000


@pytest.fixture(scope="module")
def texts(scorer: Scorer) -> list[str]:
    return sample_texts(scorer.tokenizer, 500, LONGEST)


@pytest.fixture(scope="module")
def scores(scorer: Scorer, texts: list[str]) -> list[Score]:
    return score_all(scorer, texts, ScoreOptions(base="2", ranks=True, entropy=True))


@pytest.fixture(scope="module")
def expected_rows(scorer: Scorer, texts: list[str]) -> list[np.ndarray]:
    """The distributions that PyTorch computes with the default options."""
    sequences = [[scorer.tokenizer.start_id, *scorer.tokenizer.encode(text)] for text in texts]
    return distributions(sequences, WINDOW, WINDOW // 2)


def score_all(scorer: Scorer, texts: Iterable[str | Sequence[int]], options: ScoreOptions) -> list[Score]:
    return [one for one in score_texts(scorer, texts, options) if isinstance(one, Score)]


def content(score: Score) -> list[object]:
    """Return all fields of a score, arrays as bytes."""
    values = [getattr(score, name) for name in Score.__dataclass_fields__]
    return [one.tobytes() if isinstance(one, np.ndarray) else one for one in values]


def test_sample_has_texts_of_all_lengths(scorer: Scorer, texts: list[str]) -> None:
    lengths = [len(scorer.tokenizer.encode(text)) for text in texts]
    assert (min(lengths), max(lengths), len(lengths)) == (1, LONGEST, 500)
    assert sum(length > WINDOW for length in lengths) > 50


def test_default_scores_match_transformers(
    texts: list[str], scores: list[Score], expected_rows: list[np.ndarray]
) -> None:
    for text, scored, rows in zip(texts, scores, expected_rows, strict=True):
        assert scored.text == text
        expected = logprobs_of([0, *scored.tokens], rows)
        np.testing.assert_allclose(scored.logprobs * math.log(2), expected, rtol=0, atol=1e-4)
        assert scored.logprob * math.log(2) == pytest.approx(expected.sum())
        assert scored.perplexity == pytest.approx(math.exp(-expected.mean()))
        assert scored.bits_per_byte == pytest.approx(-expected.sum() / math.log(2) / len(text.encode()))


@pytest.mark.parametrize(
    ("bos", "window", "stride", "count"),
    [(False, WINDOW, WINDOW, 500), (True, 20, 7, 250), (False, 31, 1, 20), (True, 1, 1, 20)],
)
def test_windows_match_transformers(
    scorer: Scorer, texts: list[str], bos: bool, window: int, stride: int, count: int
) -> None:
    some = sorted(texts, key=len)[-count:] if count == 500 else sorted(texts, key=len)[:: 500 // count]
    sequences = [[scorer.tokenizer.start_id] * bos + scorer.tokenizer.encode(text) for text in some]
    found = score_texts(scorer, some, ScoreOptions(bos=bos, window=window, stride=stride))
    rows = distributions(sequences, window, stride)
    for scored, sequence, one in zip(found, sequences, rows, strict=True):
        if len(sequence) < 2:
            assert "only 1 token" in str(scored)
            continue
        assert isinstance(scored, Score)
        assert np.isnan(scored.logprobs[: 1 - bos]).all()
        np.testing.assert_allclose(scored.logprobs[1 - bos :], logprobs_of(sequence, one), rtol=0, atol=1e-4)
        contexts = [position - context_start(position, window, stride) for position in range(1, len(sequence))]
        assert scored.contexts.tolist() == [0] * (1 - bos) + contexts
        assert scored.counted == len(contexts)


BOUNDS = {"word": r"\S+", "line": r"[^\r\n]*[^\s][^\r\n]*", "text": r"(?s).+"}


@pytest.mark.parametrize("unit", get_args(Unit))
def test_units_sum_the_oracle_of_their_tokens(
    scorer: Scorer, scores: list[Score], expected_rows: list[np.ndarray], unit: Unit
) -> None:
    for tokens, rows in zip(scores, expected_rows, strict=True):
        scored = replace(tokens, options=replace(tokens.options, unit=unit))
        logprobs = logprobs_of([0, *scored.tokens], rows)
        lengths = [len(scorer.tokenizer.token_bytes(id_)) for id_ in scored.tokens]
        bounds = [(one.start, one.end) for one in scored.units]
        if unit in BOUNDS:
            expected = [match.span() for match in re.finditer(BOUNDS[unit], scored.text)]
            assert bounds == (expected or [(0, len(scored.text))])
        owners = list(range(len(lengths))) if unit == "token" else units_of_tokens(scored.text, lengths, bounds)
        found = Counter(owners)
        assert sorted(found) == list(range(len(scored.units)))
        first = 0
        for index, one in enumerate(scored.units):
            count = found[index]
            assert (one.first_token, one.tokens, one.counted) == (first, count, count)
            surprisal = -logprobs[first : first + count].sum()
            assert one.surprisal * math.log(2) == pytest.approx(surprisal, abs=1e-4 * count)
            entropy = -(np.exp(rows[first]) @ rows[first])
            assert one.entropy is not None
            assert one.entropy * math.log(2) == pytest.approx(entropy, abs=1e-4)
            above = [int((rows[first] > logprobs[first] + margin).sum()) for margin in (1e-4, -1e-4)]
            assert above[0] < (one.rank or 0) <= above[1] + 1
            first += count
        assert sum(one.logprob for one in scored.units) == pytest.approx(scored.logprob)


def test_scores_are_bitwise_identical_in_every_batch_and_order(scorer: Scorer, texts: list[str]) -> None:
    some = [text for text in texts if len(text) < 300][:150]
    options = ScoreOptions(ranks=True, entropy=True, top=2, word_boundary_correction=True)
    expected = [content(one) for one in score_all(scorer, some, options)]
    for size in (1, 300):
        assert [content(one) for one in score_all(replace(scorer, batch_tokens=size), some, options)] == expected
    order = list(range(len(some)))
    random.Random(1).shuffle(order)
    shuffled = score_all(scorer, (some[index] for index in order), options)
    assert [content(one) for one in shuffled] == [expected[index] for index in order]
    for index in range(0, len(some), 5):
        assert [content(one) for one in score_all(scorer, [some[index]], options)] == [expected[index]]


@pytest.mark.parametrize("unit", get_args(Unit))
def test_other_options_do_not_change_the_logprobs(scorer: Scorer, scores: list[Score], unit: Unit) -> None:
    some = sorted(scores, key=lambda one: len(one.tokens))[:60:4]
    options = ScoreOptions(unit=unit, base="2", top=5)
    for source in ([one.text for one in some], [one.tokens for one in some]):
        again = score_all(scorer, source, options)
        assert [one.logprobs.tobytes() for one in again] == [one.logprobs.tobytes() for one in some]
        assert [one.spans.tolist() for one in again] == [one.spans.tolist() for one in some]
        assert [one.text for one in again] == [one.text for one in some]


def test_public_class_scores_one_text_or_several(scorer: Scorer, tiny_checkpoint: Checkpoint) -> None:
    unused = CompiledModel(tiny_checkpoint.config, "mojo", pytest.fail, tiny_checkpoint.state_dict)
    gpt2 = GPT2(Engine(unused, tiny_checkpoint.tokenizer))
    texts: list[str | Sequence[int]] = ["The dog was lazy.", [5, 60, 200], "猫 " * 90]
    expected = score_all(scorer, texts, ScoreOptions(unit="word", ranks=True, base="2"))
    found = gpt2.score(texts, unit="word", ranks=True, base="2")
    assert [content(one) for one in found] == [content(one) for one in expected]
    assert [content(gpt2.score(text, unit="word", ranks=True, base="2")) for text in texts] == list(map(content, found))
    assert gpt2.score(texts[:0]) == []
    assert gpt2.score("").tokens == []
    assert gpt2._scorer is gpt2._scorer
    with pytest.raises(RequestError, match=r"Text 2 of 3: The text has only 1 token\. Give at least two"):
        gpt2.score(["The dog", "a", "The"], bos=False)
    with pytest.raises(RequestError, match=r"^The text has only 1 token\."):
        gpt2.score("a", bos=False)
    with pytest.raises(RequestError, match=r"stride 0 is not a positive integer"):
        gpt2.score("The dog", stride=0)
    with pytest.raises(TypeError, match="strid"):
        gpt2.score("The dog", strid=5)  # type: ignore[call-overload]
