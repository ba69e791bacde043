"""Choosing the next token. A sampler is a value: a function from logits and a text so far to an id."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from max_gpt2.errors import RequestError, listed
from max_gpt2.generation import warpers
from max_gpt2.generation.bans import bad_words, min_new_tokens, no_repeat_ngram
from max_gpt2.generation.history import History
from max_gpt2.generation.penalties import Processor, logit_bias, presence_and_frequency, repetition_penalty

Sampler = Callable[[np.ndarray, History], int]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The names are those of transformers and OpenAI, and so is what they do.

    First `logit_bias`, the penalties, `no_repeat_ngram_size`, `bad_words` (sequences of ids) and `min_new_tokens`
    change the scores, in this order. Temperature 0 then takes the likeliest token, the lowest id of several; above 0
    one is drawn from softmax(scores / temperature): of the `top_k` likeliest (0 for all), of those that have the
    probability `top_p` together (1 for all), of those that have at least `min_p` of the likeliest one's. The same seed
    draws the same tokens.

    Raises RequestError that lists all values that are impossible.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words: Sequence[Sequence[int]] = ()
    min_new_tokens: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)} is not {expected}"
            for name, (fits, expected) in _CHECKS.items()
            if not fits(getattr(self, name))
        ]
        if problems:
            raise RequestError(listed("The sampling cannot be carried out", problems, "Correct it."))


def _is_count(value: int) -> bool:
    return value >= 0


def _is_amount(value: float) -> bool:
    return math.isfinite(value)


_COUNT = (_is_count, "a whole number from 0 on")
_AMOUNT = (_is_amount, "a finite number")
_CHECKS: dict[str, tuple[Callable[..., bool], str]] = {
    "temperature": (lambda value: 0 <= value < math.inf, "a number from 0 on (0 takes the likeliest tokens)"),
    "top_k": _COUNT,
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1 (1 keeps all tokens)"),
    "min_p": (lambda value: 0 <= value <= 1, "from 0 to 1 (0 keeps all tokens)"),
    "repetition_penalty": (lambda value: 0 < value < math.inf, "a number above 0 (1 changes nothing)"),
    "presence_penalty": _AMOUNT,
    "frequency_penalty": _AMOUNT,
    "no_repeat_ngram_size": _COUNT,
    "logit_bias": (lambda bias: all(map(_is_amount, bias.values())), "from ids to finite numbers"),
    "bad_words": (lambda sequences: all(sequences), "a list of sequences of ids, none of them empty"),
    "min_new_tokens": _COUNT,
    "seed": (lambda value: value is None or value >= 0, "a whole number from 0 on"),
}


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
    scores = warpers.temperature(scores, sampling.temperature)
    if sampling.top_k:
        scores = warpers.top_k(scores, sampling.top_k)
    if sampling.top_p < 1:
        scores = warpers.top_p(scores, sampling.top_p)
    return warpers.min_p(scores, sampling.min_p) if sampling.min_p else scores


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
