"""Choosing the next token. A sampler is a value: a function from logits and a text so far to an id."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.generation.warpers import min_p, temperature, top_k, top_p
from max_gpt2.generation.bans import bad_words, min_new_tokens, no_repeat_ngram
from max_gpt2.generation.history import History
from max_gpt2.generation.request import Sampling
from max_gpt2.generation.penalties import Processor, logit_bias, presence_and_frequency, repetition_penalty

Sampler = Callable[[np.ndarray, History], int]


def make_sampler(sampling: Sampling, seed: int, size: int, endings: Sequence[int] = ()) -> Sampler:
    """Return a function from logits [vocab] and the text so far to the id chosen, which is below `size`.

    `size` is how many ids the tokenizer has; `endings` are those that end a text, which `min_new_tokens` holds back.
    Raises RequestError when `logit_bias` or `bad_words` have other ids, and when the sampler is called, if every token
    is forbidden.
    """
    process = make_processors(sampling, size, endings)
    dice = np.random.default_rng(seed)

    def sample(logits: np.ndarray, history: History) -> int:
        likeliest = int(logits[:size].argmax())
        if sampling.temperature == 0 and not process and logits[likeliest] > -np.inf:
            return likeliest
        scores = logits.astype(np.float64)
        scores[size:] = -np.inf
        for apply in process:
            scores = apply(scores, history)
        if not (scores > -np.inf).any():
            raise RequestError("Every token is forbidden at this place. Loosen bad_words or no_repeat_ngram_size.")
        if sampling.temperature == 0:
            return int(scores.argmax())
        heights = np.exp(warp(scores, sampling)).cumsum()
        return int((heights > dice.random() * heights[-1]).argmax())

    return sample


def warp(scores: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Narrow the choice by temperature, top_k, top_p and min_p, in this order: [vocab] -> [vocab], at most 0."""
    scores = temperature(scores, sampling.temperature)
    if sampling.top_k:
        scores = top_k(scores, sampling.top_k)
    if sampling.top_p < 1:
        scores = top_p(scores, sampling.top_p)
    return min_p(scores, sampling.min_p) if sampling.min_p else scores


def make_processors(sampling: Sampling, size: int, endings: Sequence[int]) -> list[Processor]:
    """Return what changes the scores before an id is chosen; raises RequestError for an id that is not below `size`."""
    ids = [*sampling.logit_bias, *(id_ for sequence in sampling.bad_words for id_ in sequence)]
    if strangers := [id_ for id_ in ids if not 0 <= id_ < size]:
        raise RequestError(f"logit_bias or bad_words have the id {strangers[0]}, which is not in 0 .. {size - 1}.")
    processors: list[Processor] = []
    if sampling.logit_bias:
        processors.append(logit_bias(sampling.logit_bias))
    if sampling.repetition_penalty != 1:
        processors.append(repetition_penalty(sampling.repetition_penalty))
    if sampling.presence_penalty or sampling.frequency_penalty:
        processors.append(presence_and_frequency(sampling.presence_penalty, sampling.frequency_penalty))
    if sampling.no_repeat_ngram_size:
        processors.append(no_repeat_ngram(sampling.no_repeat_ngram_size))
    if sampling.bad_words:
        processors.append(bad_words(sampling.bad_words))
    if sampling.min_new_tokens:
        processors.append(min_new_tokens(sampling.min_new_tokens, [id_ for id_ in endings if id_ < size]))
    return processors
