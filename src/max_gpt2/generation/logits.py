"""Logits processors, samplers and logprobs."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.generation.params import SamplingParams


@dataclass(frozen=True)
class History:
    """The token ids of a prompt and the ids generated after it; callers append to `generated`."""

    prompt: list[int]
    generated: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """Return the prompt followed by the generated ids."""
        return self.prompt + self.generated


#: A function that changes scores [vocab], in place or not, given the tokens so far, and returns them.
Processor = Callable[[np.ndarray, History], np.ndarray]


def logit_bias(bias: Mapping[int, float]) -> Processor:
    """Add a bias to the scores of some ids, as OpenAI documents `logit_bias`; -100 in effect bans an id."""
    ids, biases = np.array(list(bias), dtype=np.int64), np.array(list(bias.values()))

    def apply(scores: np.ndarray, _history: History) -> np.ndarray:
        scores[ids] += biases
        return scores

    return apply


def repetition_penalty(penalty: float) -> Processor:
    """Divide the positive scores of prompt and generated ids by `penalty`; multiply the negative ones by it.

    Source: Keskar et al. 2019, section 4.1, in the form of transformers: once per distinct id.
    """

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        ids = np.unique(history.tokens)
        seen = scores[ids]
        scores[ids] = np.where(seen < 0, seen * penalty, seen / penalty)
        return scores

    return apply


def presence_and_frequency(presence: float, frequency: float) -> Processor:
    """Subtract `presence` and, per occurrence, `frequency` from the scores of generated ids, as OpenAI does."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        ids, counts = np.unique(np.array(history.generated, dtype=np.int64), return_counts=True)
        scores[ids] -= presence + frequency * counts
        return scores

    return apply


def no_repeat_ngram(size: int) -> Processor:
    """Ban the ids that would repeat an n-gram of `size` ids of the prompt and the generated ids."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        tokens = history.tokens
        start = tokens[len(tokens) - size + 1 :]  # the last size - 1 ids
        for index in range(len(tokens) - size + 1):
            if tokens[index : index + size - 1] == start:
                scores[tokens[index + size - 1]] = -np.inf
        return scores

    return apply


def bad_words(sequences: Sequence[Sequence[int]]) -> Processor:
    """Ban the last id of each of `sequences` when the tokens so far end with the ids before it."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        tokens = history.tokens
        for *before, last in sequences:
            if tokens[len(tokens) - len(before) :] == before and len(before) <= len(tokens):
                scores[last] = -np.inf
        return scores

    return apply


def min_new_tokens(count: int, stop_token_ids: Sequence[int]) -> Processor:
    """Ban the stop tokens until `count` ids are generated."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        if len(history.generated) < count:
            scores[list(stop_token_ids)] = -np.inf
        return scores

    return apply


def temperature(scores: np.ndarray, value: float) -> np.ndarray:
    """Subtract the maximum, which avoids overflow and does not change the softmax, and divide by the temperature."""
    return (scores - scores.max()) / value


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Keep the `k` most likely ids and those that tie with the last of them."""
    if k >= len(scores):
        return scores
    return np.where(scores < np.partition(scores, -k)[-k], -np.inf, scores)


def top_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Keep the smallest set of most likely ids with a total probability of at least `p`: Holtzman et al. 2020.

    As in transformers, drop the least likely ids while their cumulative probability is at most 1 - p, but keep one.
    """
    ascending = np.sort(scores)
    dropped = min(int(np.count_nonzero(softmax(ascending).cumsum() <= 1 - p)), len(scores) - 1)
    threshold = ascending[dropped]
    below = scores < threshold
    ties = np.flatnonzero(scores == threshold)  # drop the lowest ids first, as a stable sort would
    return _without(_without(scores, below), ties[: dropped - np.count_nonzero(below)])


def min_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Drop ids less likely than `p` times the most likely id: Nguyen et al. 2024."""
    probs = softmax(scores)
    return _without(scores, probs < p * probs.max())


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities: [vocab] -> [vocab]."""
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def _without(scores: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    remaining = scores.copy()
    remaining[dropped] = -np.inf
    return remaining


@dataclass(frozen=True)
class TokenLogprob:
    """The logprob of a token, and the logprobs of the most likely ids in descending order."""

    token: int
    logprob: float
    top: dict[int, float]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log(softmax(logits)) over the last axis in float64: [..., vocab] -> [..., vocab]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def token_logprob(logits: np.ndarray, token: int, alternatives: int) -> TokenLogprob:
    """Return the logprob of a token under logits [vocab], with the `alternatives` most likely ids."""
    logprobs = log_softmax(logits)
    top = most_likely(logprobs, alternatives)
    return TokenLogprob(token, float(logprobs[token]), {int(id_): float(logprobs[id_]) for id_ in top})


def most_likely(logprobs: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` most likely ids in descending order, ties by id, without sorting the whole vocabulary."""
    if count < len(logprobs):
        threshold = np.partition(logprobs, -count)[-count] if count else np.inf
        found = np.flatnonzero(logprobs >= threshold)
    else:
        found = np.arange(len(logprobs))
    return found[np.argsort(-logprobs[found], kind="stable")][:count]


class Sampler:
    """Chooses the next id from logits [vocab] and the tokens so far; use `make_sampler` to create one.

    Raises RequestError if every token is banned.
    """

    def __init__(self, params: SamplingParams, seed: int, size: int, processors: Sequence[Processor]) -> None:
        """Start with the first random number of the seed."""
        self._params, self._size, self._processors = params, size, processors
        self._rng = np.random.default_rng(seed)
        self._numbers = deque[float]()  # random numbers that are drawn but not used

    def __call__(self, logits: np.ndarray, history: History) -> int:
        """Choose the next id."""
        token = self.ahead(logits, history, 0)
        if self._numbers:
            self._numbers.popleft()
        return token

    def ahead(self, logits: np.ndarray, history: History, calls: int) -> int:
        """Return the id that a call will choose after `calls` others; changes nothing."""
        argmax = int(logits[: self._size].argmax())
        if self._params.temperature == 0 and not self._processors and logits[argmax] > -np.inf:
            return argmax
        scores = logits.astype(np.float64)
        scores[self._size :] = -np.inf
        for apply in self._processors:
            scores = apply(scores, history)
        if not (scores > -np.inf).any():
            raise RequestError("Every token is banned. Relax bad_words or no_repeat_ngram_size.")
        if self._params.temperature == 0:
            return int(scores.argmax())
        cdf = np.exp(warp(scores, self._params)).cumsum()
        while len(self._numbers) <= calls:
            self._numbers.append(self._rng.random())
        return int((cdf > self._numbers[calls] * cdf[-1]).argmax())


def make_sampler(params: SamplingParams, seed: int, size: int, stop_token_ids: Sequence[int] = ()) -> Sampler:
    """Return a sampler for `params`, which never chooses an id of `size`, the size of the tokenizer, or above.

    `min_new_tokens` bans `stop_token_ids`. Raises RequestError if `logit_bias` or `bad_words` contain an id out of
    range.
    """
    return Sampler(params, seed, size, make_processors(params, size, stop_token_ids))


def warp(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Apply temperature, top_k, top_p and min_p, in this order: [vocab] -> [vocab], at most 0."""
    scores = temperature(scores, params.temperature)
    if params.top_k:
        scores = top_k(scores, params.top_k)
    if params.top_p < 1:
        scores = top_p(scores, params.top_p)
    return min_p(scores, params.min_p) if params.min_p else scores


def make_processors(params: SamplingParams, size: int, stop_token_ids: Sequence[int]) -> list[Processor]:
    """Return the logits processors for `params`; raises RequestError for an id out of range."""
    ids = [*params.logit_bias, *(id_ for sequence in params.bad_words for id_ in sequence)]
    if invalid := [id_ for id_ in ids if not 0 <= id_ < size]:
        raise RequestError(f"logit_bias or bad_words contain the id {invalid[0]}, which is not in 0 .. {size - 1}.")
    processors: list[Processor] = []
    if params.logit_bias:
        processors.append(logit_bias(params.logit_bias))
    if params.repetition_penalty != 1:
        processors.append(repetition_penalty(params.repetition_penalty))
    if params.presence_penalty or params.frequency_penalty:
        processors.append(presence_and_frequency(params.presence_penalty, params.frequency_penalty))
    if params.no_repeat_ngram_size:
        processors.append(no_repeat_ngram(params.no_repeat_ngram_size))
    if params.bad_words:
        processors.append(bad_words(params.bad_words))
    if params.min_new_tokens:
        processors.append(min_new_tokens(params.min_new_tokens, [id_ for id_ in stop_token_ids if id_ < size]))
    return processors
