"""Runs over many texts: order, laziness, and errors of single texts. The model is a fake without weights."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_gpt2.errors import RequestError
from max_gpt2.model.scoring import scores_from_logits
from max_gpt2.scoring import Score, ScoreOptions, Scorer, score_texts
from tests.scoring.fakes import FakeModel


def only(scorer: Scorer, text: str | Sequence[int], options: ScoreOptions) -> Score:
    (scored,) = score_texts(scorer, [text], options)
    assert isinstance(scored, Score)
    return scored


def message(scorer: Scorer, text: str | Sequence[int], options: ScoreOptions) -> str:
    (scored,) = score_texts(scorer, [text], options)
    assert isinstance(scored, RequestError)
    return str(scored)


@settings(max_examples=30)
@given(
    ids=st.lists(st.integers(0, 310), min_size=2, max_size=90),
    window=st.integers(1, 67),
    data=st.data(),
    bos=st.booleans(),
    correction=st.booleans(),
)
def test_every_token_is_scored_once_with_the_documented_context(
    fake_scorer: Scorer, ids: list[int], window: int, data: st.DataObject, bos: bool, correction: bool
) -> None:
    stride = data.draw(st.integers(1, window))
    options = ScoreOptions(
        bos=bos, window=window, stride=stride, ranks=True, entropy=True, top=3, word_boundary_correction=correction
    )
    scored = only(fake_scorer, ids, options)
    sequence = [299] * bos + ids
    model = FakeModel(311)
    assert scored.ranks is not None
    assert scored.entropies is not None
    assert scored.top_ids is not None
    assert len(scored.ranks) == len(scored.entropies) == len(scored.top_ids) == len(scored.contexts) == len(ids)
    for index, id_ in enumerate(ids):
        position = index + bos
        context = int(scored.contexts[index])
        if position == 0:
            assert (context, scored.ranks[0], scored.top_ids[0].tolist()) == (0, 0, [-1] * 3)
            assert np.isnan([scored.logprobs[0], scored.entropies[0]]).all()
            continue
        assert min(position, window - stride + 1) <= context <= min(position, window)
        logits = model.logits(sequence[position - context : position])[np.newaxis]
        expected = scores_from_logits(logits, np.array([id_]), 3, np.zeros(311, dtype=bool))
        if not correction:
            assert scored.logprobs[index] == expected.logprobs[0]
        assert scored.ranks[index] == expected.ranks[0]
        assert scored.entropies[index] == expected.entropies[0]
        assert scored.top_ids[index].tolist() == expected.top_ids[0].tolist()


def test_texts_are_read_lazily(fake_scorer: Scorer) -> None:
    read = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            read.append(number)
            yield f"text {number} " * 50

    found = score_texts(fake_scorer, endless(), ScoreOptions())
    assert read == []
    assert [one.text.split()[1] for one in itertools.islice(found, 3) if isinstance(one, Score)] == ["0", "1", "2"]
    assert len(read) < 1000


def test_texts_share_batches(fake_scorer: Scorer) -> None:
    model = FakeModel(311)
    scores = list(score_texts(replace(fake_scorer, model=model), ["The dog"] * 50, ScoreOptions()))
    assert len(scores) == 50
    assert model.batches == [50]


def test_invalid_texts_do_not_stop_the_others(fake_scorer: Scorer) -> None:
    texts: list[str | Sequence[int]] = ["The dog", "a\ud800", "", [5, 311], "a", [7, 8], "\x00 a \x00 b"]
    broken = fake_scorer.tokenizer.encode("\x00")[0]
    scorer = replace(fake_scorer, model=FakeModel(311, broken))
    found = list(score_texts(scorer, texts, ScoreOptions(bos=False)))
    expected = [None, "not valid Unicode", "only 0 tokens", "id 311 is not in", "only 1 token", None, "not finite"]
    for one, problem in zip(found, expected, strict=True):
        assert isinstance(one, RequestError if problem else Score)
        assert problem is None or problem in str(one)
    assert [found[0], found[5]] != [found[5], found[0]]
    (alone,) = score_texts(scorer, [[7, 8]], ScoreOptions(bos=False))
    assert isinstance(alone, Score)
    assert isinstance(found[5], Score)
    assert alone.logprobs.tobytes() == found[5].logprobs.tobytes()


def test_nan_in_a_later_window_rejects_the_whole_text(fake_scorer: Scorer) -> None:
    broken = fake_scorer.tokenizer.encode("\x00")[0]
    scorer = replace(fake_scorer, model=FakeModel(311, broken))
    found = list(score_texts(scorer, ["The dog " * 40 + "\x00" + "The dog " * 40, "The dog"], ScoreOptions()))
    assert isinstance(found[0], RequestError)
    assert "not finite" in str(found[0])
    assert isinstance(found[1], Score)
    assert found[1].tokens == scorer.tokenizer.encode("The dog")


@pytest.mark.parametrize("text", ["", []])
def test_empty_text_with_bos_has_no_tokens(fake_scorer: Scorer, text: str | list[int]) -> None:
    options = ScoreOptions(unit="word", ranks=True, entropy=True, top=2, word_boundary_correction=True)
    scored = only(fake_scorer, text, options)
    assert (scored.text, scored.tokens, scored.counted, scored.logprob, scored.units) == ("", [], 0, 0.0, [])
    assert str(scored.surprisal) == "0.0"
    assert np.isnan([scored.perplexity, scored.bits_per_byte]).all()
    assert scored.to_dict()["perplexity"] is None
    assert scored.logprobs.shape == scored.contexts.shape == (0,)
    assert scored.spans.shape == scored.top_ids.shape == (0, 2)  # type: ignore[union-attr]
    assert "only 0 tokens" in message(fake_scorer, text, ScoreOptions(bos=False))


def test_first_token_without_bos_counts_nowhere(fake_scorer: Scorer) -> None:
    scored = only(fake_scorer, "The dog was", ScoreOptions(bos=False, unit="word", ranks=True, entropy=True, top=1))
    first, *others = scored.units
    assert scored.counted == len(scored.tokens) - 1
    assert first.counted == first.tokens - 1
    assert (first.rank, first.entropy, first.top, first.context) == (None, None, None, 0)
    assert scored.logprob == pytest.approx(np.nansum(scored.logprobs))
    assert all(one.counted == one.tokens and one.rank and one.top for one in others)
    (alone,) = only(fake_scorer, [5, 6], ScoreOptions(bos=False)).units[:1]
    assert np.isnan(alone.logprob)
    assert np.isnan(alone.surprisal)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"unit": "phrase"}, "unit 'phrase' is not one of token, word, sentence, line, text"),
        ({"base": "3"}, "base '3' is not one of e, 2, 10"),
        ({"top": -1}, r"top -1 is not in 0 \.\. 100"),
        ({"top": 101}, r"top 101 is not in 0 \.\. 100"),
        ({"window": 0}, "window 0 is not a positive integer"),
        ({"stride": 0}, "stride 0 is not a positive integer"),
        ({"stride": 0, "base": "3"}, "2 problems"),
        ({"window": 68}, r"window 68 is not in 1 \.\. 67"),
        ({"stride": 68}, r"stride 68 is not in 1 \.\. 67, the window"),
        ({"window": 5, "stride": 6}, r"stride 6 is not in 1 \.\. 5"),
    ],
)
def test_invalid_options_are_named_at_once(fake_scorer: Scorer, options: dict[str, object], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        score_texts(fake_scorer, [], ScoreOptions(**options))  # type: ignore[arg-type]


def test_more_alternatives_than_ids_are_an_error(fake_scorer: Scorer) -> None:
    with pytest.raises(RequestError, match="top 66 exceeds the vocabulary of 65 ids"):
        ScoreOptions(top=66).resolve(replace(fake_scorer.config, vocab_size=65))


def test_options_of_a_score_name_the_window_that_was_used(fake_scorer: Scorer) -> None:
    assert only(fake_scorer, "The", ScoreOptions()).options == ScoreOptions(window=67, stride=33)
    assert only(fake_scorer, "The", ScoreOptions(window=1)).options.stride == 1


@pytest.mark.parametrize(("base", "log"), [("e", 1.0), ("2", np.log(2)), ("10", np.log(10))])
def test_base_applies_to_all_logarithms(fake_scorer: Scorer, base: str, log: float) -> None:
    natural = only(fake_scorer, "The dog", ScoreOptions(entropy=True, top=2, unit="word"))
    scored = only(fake_scorer, "The dog", ScoreOptions(base=base, entropy=True, top=2, unit="word"))  # type: ignore[arg-type]
    assert scored.entropies is not None
    np.testing.assert_allclose(scored.logprobs * log, natural.logprobs)
    for ours, expected in zip(scored.units, natural.units, strict=True):
        assert (ours.entropy or 0) * log == pytest.approx(expected.entropy)
        assert ours.surprisal * log == pytest.approx(expected.surprisal)
        assert ours.top is not None
        assert expected.top is not None
        assert [one.logprob * log for one in ours.top] == pytest.approx([one.logprob for one in expected.top])
    assert scored.perplexity == pytest.approx(natural.perplexity)
    assert scored.bits_per_byte == pytest.approx(natural.bits_per_byte)
