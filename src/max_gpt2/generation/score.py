"""How likely a model finds a text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation.engine import Engine
from max_gpt2.generation.logprobs import log_softmax
from max_gpt2.generation.request import check_prompt


@dataclass(frozen=True)
class Score:
    """The ids of a text with the natural logarithms of their probabilities, each given those before it.

    Nothing stands before the first id, so it has None and counts neither in `logprob`, the whole text's, nor in
    `perplexity`, which is exp(-logprob / the number of ids that count).
    """

    tokens: list[int]
    logprobs: list[float | None]

    @property
    def logprob(self) -> float:
        """The logarithm of the probability of all ids after the first."""
        return sum(one for one in self.logprobs if one is not None)

    @property
    def perplexity(self) -> float:
        """How many equally likely ids the model hesitated between, on average."""
        return perplexity(self.logprob, len(self.tokens) - 1)


def perplexity(logprob: float, count: int) -> float:
    """Return exp(-logprob / count), which is infinite where a float has no room for it."""
    try:
        return math.exp(-logprob / count)
    except OverflowError:
        return math.inf


def check_score(config: GPT2Config, tokens: Sequence[int]) -> None:
    """Raise RequestError for fewer than two ids, more than the context, and ids out of range."""
    if len(tokens) < 2:
        raise RequestError(f"The text has only {len(tokens)} tokens. Give two at least: the first has no probability.")
    check_prompt(config, tokens)


def score(engine: Engine, tokens: Sequence[int]) -> Score:
    """Score a text's ids; raises as `check_score` does."""
    check_score(engine.model.config, tokens)
    ids = list(tokens)
    chances = log_softmax(engine.model.logits(np.array([ids]))[0, :-1])  # [seq - 1, vocab]
    found = chances[np.arange(len(ids) - 1), ids[1:]]
    return Score(ids, [None, *map(float, found)])
