"""Logits processors and the sampler, compared with those of transformers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import (
    LogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from max_gpt2.errors import RequestError
from max_gpt2.generation import SamplingParams, make_sampler
from max_gpt2.generation.logits import (
    History,
    Processor,
    bad_words,
    logit_bias,
    min_new_tokens,
    no_repeat_ngram,
    presence_and_frequency,
    repetition_penalty,
    warp,
)

VOCAB = 7
sequences = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12)
prompts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6)
SCORES = np.array([1.5, -2.0, 3.25, 0.0, 3.0, -0.5, 2.0])


def assert_like(ours: Processor, theirs: LogitsProcessor, prompt: list[int], generated: list[int]) -> None:
    found = ours(SCORES.copy(), History(prompt, generated))
    expected = theirs(torch.tensor([prompt + generated]), torch.from_numpy(SCORES[None].copy()))[0].numpy()
    np.testing.assert_array_equal(found, expected)


@given(prompts, sequences, st.sampled_from([0.5, 1.3, 2.0]))
def test_repetition_penalty_matches_transformers(prompt: list[int], generated: list[int], penalty: float) -> None:
    assert_like(repetition_penalty(penalty), RepetitionPenaltyLogitsProcessor(penalty), prompt, generated)


@given(prompts, sequences, st.integers(1, 4))
def test_no_repeat_ngram_matches_transformers(prompt: list[int], generated: list[int], size: int) -> None:
    assert_like(no_repeat_ngram(size), NoRepeatNGramLogitsProcessor(size), prompt, generated)


@given(
    prompts, sequences, st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3), min_size=1, max_size=4)
)
def test_bad_words_match_transformers(prompt: list[int], generated: list[int], banned: list[list[int]]) -> None:
    # transformers ignores a banned sequence longer than all tokens so far; max-gpt2 does not.
    assume(max(map(len, banned)) <= len(prompt + generated))
    theirs = NoBadWordsLogitsProcessor(banned, eos_token_id=torch.tensor([VOCAB + 1]))
    assert_like(bad_words(banned), theirs, prompt, generated)


def test_bad_word_spans_prompt_and_generated_tokens() -> None:
    assert bad_words([[4, 0, 3]])(SCORES.copy(), History([4], [0]))[3] == -np.inf
    assert np.isfinite(bad_words([[4, 0, 3]])(SCORES.copy(), History([0]))).all()


@given(prompts, sequences, st.integers(0, 13))
def test_min_new_tokens_matches_transformers(prompt: list[int], generated: list[int], count: int) -> None:
    theirs = MinNewTokensLengthLogitsProcessor(len(prompt), count, eos_token_id=[2, 5])
    assert_like(min_new_tokens(count, [2, 5]), theirs, prompt, generated)


@given(prompts, sequences, st.dictionaries(st.integers(0, VOCAB - 1), st.sampled_from([-100.0, -1.5, 2.5]), min_size=1))
def test_logit_bias_matches_transformers(prompt: list[int], generated: list[int], bias: dict[int, float]) -> None:
    # transformers declares lists, but rejects a list with id 0.
    biases: Any = {(id_,): amount for id_, amount in bias.items()}
    theirs = SequenceBiasLogitsProcessor(biases)
    assert_like(logit_bias(bias), theirs, prompt, generated)


@given(prompts, sequences)
def test_presence_and_frequency_count_generated_tokens_only(prompt: list[int], generated: list[int]) -> None:
    found = presence_and_frequency(0.5, 0.25)(SCORES.copy(), History(prompt, generated))
    expected = [
        score - (0.5 + 0.25 * generated.count(id_) if id_ in generated else 0) for id_, score in enumerate(SCORES)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "processor", [presence_and_frequency(1, 1), no_repeat_ngram(3), min_new_tokens(0, [1])], ids=lambda one: ""
)
def test_processor_without_generated_tokens_changes_nothing(processor: Callable[..., np.ndarray]) -> None:
    np.testing.assert_array_equal(processor(SCORES.copy(), History([4])), SCORES)


LOGITS = np.array([1.5, -2.0, 3.25, 0.0, 3.0, -0.5, 2.0], dtype=np.float32)


#: Few distinct values, so that ties are common.
logits_with_ties = arrays(np.float32, st.integers(1, 9), elements=st.sampled_from([-3.0, -0.5, 0.0, 1.25, 4.0]))


def probabilities(logits: np.ndarray, sampling: SamplingParams) -> np.ndarray:
    """Return the probabilities after the logits warpers of transformers."""
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
def test_warped_probabilities_match_transformers(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, with_min_p: bool
) -> None:
    sampling = SamplingParams(temperature, top_k, top_p, min_p=0.2 if with_min_p else 0.0)
    ours, theirs = np.exp(warp(logits.astype(np.float64), sampling)), probabilities(logits, sampling)
    # Among tokens tied at the threshold of top_p, transformers may keep others: its sort decides.
    assume(top_p == 1 or len(set(logits)) == len(logits))
    assert ((ours > 0) == (theirs > 0)).all()
    np.testing.assert_allclose(ours / ours.sum(), theirs, rtol=1e-9, atol=1e-300)


@given(logits_with_ties, st.floats(0.05, 5), st.sampled_from([0.1, 0.5, 0.9]))
def test_top_p_keeps_as_many_tied_tokens_as_transformers(logits: np.ndarray, t: float, p: float) -> None:
    sampling = SamplingParams(t, top_p=p)
    ours, theirs = warp(logits.astype(np.float64), sampling) > -np.inf, probabilities(logits, sampling) > 0
    assert sorted(logits[ours]) == sorted(logits[theirs])


@pytest.mark.parametrize(("p", "count"), [(1e-9, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3)])
def test_top_p_keeps_the_token_that_crosses_the_threshold(p: float, count: int) -> None:
    scores = np.log([0.125, 0.5, 0.125, 0.25])
    assert (warp(scores, SamplingParams(1.0, top_p=p)) > -np.inf).sum() == count


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
def test_samples_follow_the_probabilities(sampling: SamplingParams) -> None:
    sample = make_sampler(sampling, 11, len(LOGITS))
    counts = np.bincount([sample(LOGITS, History([0])) for _ in range(20_000)], minlength=len(LOGITS))
    expected = probabilities(LOGITS, sampling)
    assert (counts[expected == 0] == 0).all()
    seen = expected > 0
    if seen.sum() > 1:
        assert scipy.stats.chisquare(counts[seen], 20_000 * expected[seen]).pvalue > 1e-3


def test_temperature_zero_returns_the_lowest_argmax() -> None:
    assert draw(LOGITS, SamplingParams(0)) == 2
    assert draw(np.array([1.0, 5.0, 5.0]), SamplingParams(0)) == 1


def test_bias_precedes_penalties_and_bans() -> None:
    """The repetition penalty of 2 doubles negative logits and halves positive ones, after the bias."""
    bias = {2: -5.0, 4: -1.0}
    assert draw(LOGITS, SamplingParams(0, logit_bias=bias)) == 4
    assert draw(LOGITS, SamplingParams(0, logit_bias=bias, bad_words=[[4]])) == 6
    penalised = make_sampler(SamplingParams(0, logit_bias=bias, repetition_penalty=2.0), 0, 7)
    assert penalised(LOGITS, History([4])) == 6  # the logit of 4 is (3 - 1) / 2, not 3 / 2 - 1


def test_min_new_tokens_bans_the_stop_tokens() -> None:
    sample = make_sampler(SamplingParams(0, min_new_tokens=2), 0, 7, stop_token_ids=[2, 9])
    assert [sample(LOGITS, History([0], [1] * count)) for count in range(4)] == [4, 4, 2, 2]


def test_ids_outside_the_tokenizer_are_never_sampled() -> None:
    assert make_sampler(SamplingParams(0), 0, 2)(LOGITS, History([6])) == 0
    drawn = make_sampler(SamplingParams(5.0), 0, 2)
    assert {drawn(LOGITS, History([6])) for _ in range(50)} == {0, 1}


def test_sampler_raises_if_every_token_is_banned() -> None:
    sample = make_sampler(SamplingParams(no_repeat_ngram_size=1), 0, 3)
    assert sample(LOGITS, History([0, 1])) == 2
    with pytest.raises(RequestError, match="Every token is banned"):
        sample(LOGITS, History([0, 1, 2]))


def test_seed_determines_the_token() -> None:
    draws = [draw(LOGITS, SamplingParams(1.0), seed) for seed in (1, 1, 2, 3, 4, 5)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_logits_do_not_overflow(extreme: float) -> None:
    logits = np.array([0.0, extreme, 1.0], dtype=np.float32)
    assert draw(logits, SamplingParams(0.01)) == (1 if extreme > 0 else 2)


@pytest.mark.parametrize("options", [{"logit_bias": {7: 1.0}}, {"bad_words": [[1, -1]]}])
def test_ids_out_of_range_are_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"contain the id (7|-1), which is not in 0 \.\. 6"):
        make_sampler(SamplingParams(**options), 0, 7)
