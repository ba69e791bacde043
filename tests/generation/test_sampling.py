from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from max_gpt2.errors import RequestError
from max_gpt2.generation import SamplingParams, make_sampler
from max_gpt2.generation.logits import History, warp

LOGITS = np.array([1.5, -2.0, 3.25, 0.0, 3.0, -0.5, 2.0], dtype=np.float32)
#: Few distinct values, so that ties are common.
logits_with_ties = arrays(np.float32, st.integers(1, 9), elements=st.sampled_from([-3.0, -0.5, 0.0, 1.25, 4.0]))


def probabilities(logits: np.ndarray, sampling: SamplingParams) -> np.ndarray:
    """Return the probabilities after the warpers of transformers."""
    scores = torch.from_numpy(logits[None].astype(np.float64))
    scores = TemperatureLogitsWarper(sampling.temperature)(torch.empty(0), scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(torch.empty(0), scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(torch.empty(0), scores)
    if sampling.min_p:
        scores = MinPLogitsWarper(sampling.min_p)(torch.LongTensor(), scores)
    return scores.softmax(dim=-1)[0].numpy()


def draw(logits: np.ndarray, sampling: SamplingParams, seed: int = 0) -> int:
    return make_sampler(sampling, seed, len(logits))(logits, History([0]))


@given(logits_with_ties, st.floats(0.05, 5), st.integers(0, 10), st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.booleans())
def test_the_choice_is_that_of_transformers(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, with_min_p: bool
) -> None:
    sampling = SamplingParams(temperature, top_k, top_p, min_p=0.2 if with_min_p else 0.0)
    ours, theirs = np.exp(warp(logits.astype(np.float64), sampling)), probabilities(logits, sampling)
    # Of tokens that tie at the edge of top_p, transformers keeps those that its sorting puts last, which may be others.
    assume(top_p == 1 or len(set(logits)) == len(logits))
    assert ((ours > 0) == (theirs > 0)).all()
    np.testing.assert_allclose(ours / ours.sum(), theirs, rtol=1e-9, atol=1e-300)


@given(logits_with_ties, st.floats(0.05, 5), st.sampled_from([0.1, 0.5, 0.9]))
def test_top_p_keeps_as_many_as_transformers_also_when_they_tie(logits: np.ndarray, t: float, p: float) -> None:
    sampling = SamplingParams(t, top_p=p)
    ours, theirs = warp(logits.astype(np.float64), sampling) > -np.inf, probabilities(logits, sampling) > 0
    assert sorted(logits[ours]) == sorted(logits[theirs])


@pytest.mark.parametrize(("p", "kept"), [(1e-9, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3)])
def test_the_edges_of_top_p(p: float, kept: int) -> None:
    scores = np.log([0.125, 0.5, 0.125, 0.25])
    assert (warp(scores, SamplingParams(1.0, top_p=p)) > -np.inf).sum() == kept


def test_top_k_keeps_ties_with_the_last_token() -> None:
    scores = np.log([0.125, 0.5, 0.125, 0.25])
    assert (warp(scores, SamplingParams(1.0, top_k=3)) > -np.inf).sum() == 4


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(1.0),
        SamplingParams(0.6),
        SamplingParams(2.0, 4),
        SamplingParams(1.0, top_p=0.7),
        SamplingParams(1.0, min_p=0.2),
    ],
)
def test_the_frequencies_are_the_probabilities(sampling: SamplingParams) -> None:
    sample = make_sampler(sampling, 11, len(LOGITS))
    counts = np.bincount([sample(LOGITS, History([0])) for _ in range(20_000)], minlength=len(LOGITS))
    expected = probabilities(LOGITS, sampling)
    assert (counts[expected == 0] == 0).all()
    seen = expected > 0
    if seen.sum() > 1:
        assert scipy.stats.chisquare(counts[seen], 20_000 * expected[seen]).pvalue > 1e-3


def test_temperature_zero_takes_the_argmax_with_the_lowest_id() -> None:
    assert draw(LOGITS, SamplingParams(0)) == 2
    assert draw(np.array([1.0, 5.0, 5.0]), SamplingParams(0)) == 1


def test_the_order_of_bias_penalties_and_bans() -> None:
    """The bias comes first: the penalty then doubles what is negative, and halves what is positive."""
    bias = {2: -5.0, 4: -1.0}
    assert draw(LOGITS, SamplingParams(0, logit_bias=bias)) == 4
    assert draw(LOGITS, SamplingParams(0, logit_bias=bias, bad_words=[[4]])) == 6
    penalised = make_sampler(SamplingParams(0, logit_bias=bias, repetition_penalty=2.0), 0, 7)
    assert penalised(LOGITS, History([4])) == 6  # 4 has (3 - 1) / 2, and not 3 / 2 - 1


def test_min_new_tokens_bans_the_stop_tokens() -> None:
    sample = make_sampler(SamplingParams(0, min_new_tokens=2), 0, 7, stop_token_ids=[2, 9])
    assert [sample(LOGITS, History([0], [1] * count)) for count in range(4)] == [4, 4, 2, 2]


def test_ids_that_the_tokenizer_does_not_have_are_never_chosen() -> None:
    assert make_sampler(SamplingParams(0), 0, 2)(LOGITS, History([6])) == 0
    drawn = make_sampler(SamplingParams(5.0), 0, 2)
    assert {drawn(LOGITS, History([6])) for _ in range(50)} == {0, 1}


def test_the_sampler_raises_if_every_token_is_banned() -> None:
    sample = make_sampler(SamplingParams(no_repeat_ngram_size=1), 0, 3)
    assert sample(LOGITS, History([0, 1])) == 2
    with pytest.raises(RequestError, match="Every token is banned"):
        sample(LOGITS, History([0, 1, 2]))


def test_the_seed_decides() -> None:
    draws = [draw(LOGITS, SamplingParams(1.0), seed) for seed in (1, 1, 2, 3, 4, 5)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_logits_do_not_overflow(extreme: float) -> None:
    logits = np.array([0.0, extreme, 1.0], dtype=np.float32)
    assert draw(logits, SamplingParams(0.01)) == (1 if extreme > 0 else 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("presence_penalty", float("inf")),
        ("frequency_penalty", float("nan")),
        ("no_repeat_ngram_size", -1),
        ("logit_bias", {3: float("nan")}),
        ("bad_words", [[1], []]),
        ("min_new_tokens", -1),
        ("seed", -1),
    ],
)
def test_impossible_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError) as refusal:
        SamplingParams(**{name: value})
    assert str(refusal.value).startswith(f"Invalid sampling parameters: {name} {value} is not ")


def test_all_impossible_values_are_listed() -> None:
    with pytest.raises(RequestError, match=r"2 problems:\n  - top_k -1 .*\n  - min_p 2 "):
        SamplingParams(top_k=-1, min_p=2)


@pytest.mark.parametrize("options", [{"logit_bias": {7: 1.0}}, {"bad_words": [[1, -1]]}])
def test_ids_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"contain the id (7|-1), which is not in 0 \.\. 6"):
        make_sampler(SamplingParams(**options), 0, 7)
