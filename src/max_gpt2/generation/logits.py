"""Choosing the next token. A sampler is a value: a function from logits and a text so far to an id."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.generation.params import Sampling


@dataclass(frozen=True)
class History:
    """The ids of a prompt, and the ids that were written after it; `written` grows."""

    prompt: list[int]
    written: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """All of them."""
        return self.prompt + self.written


Processor = Callable[[np.ndarray, History], np.ndarray]


def logit_bias(bias: Mapping[int, float]) -> Processor:
    """Add to the scores of some ids, as OpenAI documents `logit_bias`; -100 practically forbids one."""
    ids, amounts = np.array(list(bias), dtype=np.int64), np.array(list(bias.values()))

    def apply(scores: np.ndarray, _history: History) -> np.ndarray:
        scores[ids] += amounts
        return scores

    return apply


def repetition_penalty(penalty: float) -> Processor:
    """Divide the positive scores of ids that are in the prompt or were written, and multiply the negative ones.

    Keskar et al. 2019, section 4.1, in transformers' form: once for each distinct id.
    """

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        ids = np.unique(history.tokens)
        seen = scores[ids]
        scores[ids] = np.where(seen < 0, seen * penalty, seen / penalty)
        return scores

    return apply


def presence_and_frequency(presence: float, frequency: float) -> Processor:
    """Subtract from the scores of ids that were written, once and for each time; the prompt does not count: OpenAI."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        ids, counts = np.unique(np.array(history.written, dtype=np.int64), return_counts=True)
        scores[ids] -= presence + frequency * counts
        return scores

    return apply


def no_repeat_ngram(size: int) -> Processor:
    """Forbid the id that would complete a sequence of `size` ids that the text, its prompt included, has already."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        tokens = history.tokens
        start = tokens[len(tokens) - size + 1 :]  # the size - 1 last ids
        for at in range(len(tokens) - size + 1):
            if tokens[at : at + size - 1] == start:
                scores[tokens[at + size - 1]] = -np.inf
        return scores

    return apply


def bad_words(sequences: Sequence[Sequence[int]]) -> Processor:
    """Forbid the last id of each sequence where the text ends with the ids before it."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        tokens = history.tokens
        for *before, last in sequences:
            if tokens[len(tokens) - len(before) :] == before and len(before) <= len(tokens):
                scores[last] = -np.inf
        return scores

    return apply


def min_new_tokens(count: int, endings: Sequence[int]) -> Processor:
    """Forbid the ids that end a text until `count` ids are written."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        if len(history.written) < count:
            scores[list(endings)] = -np.inf
        return scores

    return apply


def temperature(scores: np.ndarray, value: float) -> np.ndarray:
    """Divide by the temperature, the largest score being 0: softmax does not change, and nothing overflows."""
    return (scores - scores.max()) / value


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Keep the `k` likeliest, and what ties with the last of them."""
    if k >= len(scores):
        return scores
    return np.where(scores < np.partition(scores, -k)[-k], -np.inf, scores)


def top_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Keep the likeliest ids that have the probability `p` together, one at least: Holtzman et al. 2020.

    As in transformers: of the ids in the order of their probability, the least likely ones go while these have 1 - p
    or less together.
    """
    ascending = np.sort(scores)
    dropped = min(int(np.count_nonzero(softmax(ascending).cumsum() <= 1 - p)), len(scores) - 1)
    edge = ascending[dropped]
    below = scores < edge
    ties = np.flatnonzero(scores == edge)  # of these the first ones go, as if the sort had kept the order of the ids
    return _without(_without(scores, below), ties[: dropped - np.count_nonzero(below)])


def min_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Drop what is less likely than `p` times the likeliest: Nguyen et al. 2024."""
    chances = softmax(scores)
    return _without(scores, chances < p * chances.max())


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities: [vocab] -> [vocab]."""
    heights = np.exp(scores - scores.max())
    return heights / heights.sum()


def _without(scores: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    kept = scores.copy()
    kept[dropped] = -np.inf
    return kept


@dataclass(frozen=True)
class TokenLogprob:
    """An id with its natural logarithm of the probability, and the likeliest ids with theirs, the likeliest first."""

    token: int
    logprob: float
    top: dict[int, float]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log(softmax(logits)) over the last axis in float64: [..., vocab] -> [..., vocab]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def token_logprob(logits: np.ndarray, token: int, alternatives: int) -> TokenLogprob:
    """Return how likely logits [vocab] find an id, with as many of the likeliest ids."""
    chances = log_softmax(logits)
    likeliest = _likeliest(chances, alternatives)
    return TokenLogprob(token, float(chances[token]), {int(id_): float(chances[id_]) for id_ in likeliest})


def _likeliest(chances: np.ndarray, count: int) -> np.ndarray:
    """Return the likeliest ids, the likeliest first, of equals the lowest id first; few of the others are sorted."""
    if count < len(chances):
        edge = np.partition(chances, -count)[-count] if count else np.inf
        found = np.flatnonzero(chances >= edge)
    else:
        found = np.arange(len(chances))
    return found[np.argsort(-chances[found], kind="stable")][:count]


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
