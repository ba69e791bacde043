"""How likely a model finds a text."""

import math
import time
from dataclasses import dataclass
from typing import Literal

from max_gpt2.generation.logits import TokenLogprob
from max_gpt2.generation.params import Request

FinishReason = Literal["length", "stop"]


@dataclass(frozen=True)
class Step:
    """One id that was written, the text that can be shown since the last, and how likely it was if that was asked.

    The last step has a `finish_reason`; it has no token when the text ended with one that is not part of it.
    """

    token: int | None
    piece: str
    logprob: TokenLogprob | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds from the start to the first token and from there to the last; a text in a batch waits for the others."""

    prefill_s: float
    decode_s: float
    decode_tokens_per_s: float | None


@dataclass(frozen=True)
class Generation:
    """What was written: `text` is the continuation of the prompt, `tokens` its ids.

    The text is cut before a stop string; `tokens` are all that were written. `logprobs` is empty unless asked for.
    """

    prompt_tokens: list[int]
    tokens: list[int]
    text: str
    finish_reason: FinishReason
    seed: int
    logprobs: list[TokenLogprob]
    timing: Timing


class Recording:
    """The steps of a text that is being written, and when each was there."""

    def __init__(self, request: Request, seed: int) -> None:
        """Start the clock."""
        self._request, self._seed = request, seed
        self._steps: list[Step] = []
        self._stamps = [time.perf_counter()]

    def add(self, step: Step) -> None:
        """Take the next step."""
        self._steps.append(step)
        self._stamps.append(time.perf_counter())

    @property
    def ended(self) -> bool:
        """Whether the last step was the last."""
        return bool(self._steps) and self._steps[-1].finish_reason is not None

    def generation(self) -> Generation:
        """Put the steps together, the last of which there is."""
        steps, (started, first, *_, last) = self._steps, (*self._stamps, self._stamps[-1])
        decoded = len(steps) - 1
        return Generation(
            prompt_tokens=list(self._request.prompt_tokens),
            tokens=[step.token for step in steps if step.token is not None],
            text="".join(step.piece for step in steps),
            finish_reason=steps[-1].finish_reason or "length",
            seed=self._seed,
            logprobs=[step.logprob for step in steps if step.logprob],
            timing=Timing(first - started, last - first, decoded / (last - first) if decoded else None),
        )


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
