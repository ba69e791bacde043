"""How likely a model finds a text."""

import math
from dataclasses import dataclass



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


