"""Logits processors compared with those of transformers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from max_gpt2.generation.logits import (
    History,
    Processor,
    bad_words,
    logit_bias,
    min_new_tokens,
    no_repeat_ngram,
    presence_and_frequency,
    repetition_penalty,
)

VOCAB = 7
texts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12)
prompts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6)
SCORES = np.array([1.5, -2.0, 3.25, 0.0, 3.0, -0.5, 2.0])


def assert_like(ours: Processor, theirs: LogitsProcessor, prompt: list[int], generated: list[int]) -> None:
    found = ours(SCORES.copy(), History(prompt, generated))
    expected = theirs(torch.tensor([prompt + generated]), torch.from_numpy(SCORES[None].copy()))[0].numpy()
    np.testing.assert_array_equal(found, expected)


@given(prompts, texts, st.sampled_from([0.5, 1.3, 2.0]))
def test_repetition_penalty(prompt: list[int], generated: list[int], penalty: float) -> None:
    assert_like(repetition_penalty(penalty), RepetitionPenaltyLogitsProcessor(penalty), prompt, generated)


@given(prompts, texts, st.integers(1, 4))
def test_no_repeat_ngram(prompt: list[int], generated: list[int], size: int) -> None:
    assert_like(no_repeat_ngram(size), NoRepeatNGramLogitsProcessor(size), prompt, generated)


@given(prompts, texts, st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3), min_size=1, max_size=4))
def test_bad_words(prompt: list[int], generated: list[int], sequences: list[list[int]]) -> None:
    # transformers lets a sequence pass that would be longer than the whole text before it; ours does not.
    assume(max(map(len, sequences)) <= len(prompt + generated))
    theirs = NoBadWordsLogitsProcessor(sequences, eos_token_id=torch.tensor([VOCAB + 1]))
    assert_like(bad_words(sequences), theirs, prompt, generated)


def test_a_bad_word_is_not_completed_at_the_start_of_a_text() -> None:
    assert bad_words([[4, 0, 3]])(SCORES.copy(), History([4], [0]))[3] == -np.inf
    assert np.isfinite(bad_words([[4, 0, 3]])(SCORES.copy(), History([0]))).all()


@given(prompts, texts, st.integers(0, 13))
def test_min_new_tokens(prompt: list[int], generated: list[int], count: int) -> None:
    theirs = MinNewTokensLengthLogitsProcessor(len(prompt), count, eos_token_id=[2, 5])
    assert_like(min_new_tokens(count, [2, 5]), theirs, prompt, generated)


@given(prompts, texts, st.dictionaries(st.integers(0, VOCAB - 1), st.sampled_from([-100.0, -1.5, 2.5]), min_size=1))
def test_logit_bias(prompt: list[int], generated: list[int], bias: dict[int, float]) -> None:
    sequences: Any = {(id_,): amount for id_, amount in bias.items()}  # the type hint has lists, which refuse id 0
    theirs = SequenceBiasLogitsProcessor(sequences)
    assert_like(logit_bias(bias), theirs, prompt, generated)


@given(prompts, texts)
def test_presence_and_frequency_count_what_was_written(prompt: list[int], generated: list[int]) -> None:
    found = presence_and_frequency(0.5, 0.25)(SCORES.copy(), History(prompt, generated))
    expected = [
        score - (0.5 + 0.25 * generated.count(id_) if id_ in generated else 0) for id_, score in enumerate(SCORES)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "processor", [presence_and_frequency(1, 1), no_repeat_ngram(3), min_new_tokens(0, [1])], ids=lambda one: ""
)
def test_nothing_written_changes_nothing(processor: Callable[..., np.ndarray]) -> None:
    np.testing.assert_array_equal(processor(SCORES.copy(), History([4])), SCORES)
