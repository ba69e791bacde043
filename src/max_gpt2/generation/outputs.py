"""Results of generation."""

import time
from dataclasses import dataclass
from typing import Literal

from max_gpt2.generation.logits import TokenLogprob
from max_gpt2.generation.params import Request

FinishReason = Literal["length", "stop"]


@dataclass(frozen=True)
class TokenOutput:
    """One generated token, the text that became final with it, and its logprob if the request has `logprobs`.

    The last output of a sequence has a `finish_reason`. Its `token` is None if a stop token ended the sequence.
    """

    token: int | None
    text_delta: str
    logprob: TokenLogprob | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Drafts:
    """The number of tokens that speculation has drafted, and how many of them were right."""

    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class Timing:
    """Seconds from the start to the first token, and from the first to the last; both include waiting for the batch."""

    prefill_s: float
    decode_s: float
    decode_tokens_per_s: float | None


@dataclass(frozen=True)
class Generation:
    """The continuation of a prompt: its `text` and its token ids `tokens`.

    `text` ends before a stop string; `tokens` has all generated ids. `logprobs` is empty unless the request has
    `logprobs`, and `drafts` counts nothing without speculation.
    """

    prompt_tokens: list[int]
    tokens: list[int]
    text: str
    finish_reason: FinishReason
    seed: int
    logprobs: list[TokenLogprob]
    timing: Timing
    drafts: Drafts = Drafts()


class OutputBuilder:
    """A builder that collects the outputs of one sequence with their times and makes a Generation of them."""

    def __init__(self, request: Request, seed: int) -> None:
        """Start the clock."""
        self._request, self._seed = request, seed
        self._outputs: list[TokenOutput] = []
        self._timestamps = [time.perf_counter()]

    def add(self, output: TokenOutput) -> None:
        """Append an output."""
        self._outputs.append(output)
        self._timestamps.append(time.perf_counter())

    @property
    def finished(self) -> bool:
        """Return True if the last output has a finish reason."""
        return bool(self._outputs) and self._outputs[-1].finish_reason is not None

    def build(self, drafts: Drafts) -> Generation:
        """Return the Generation of a finished sequence."""
        outputs, (started, first, *_, last) = self._outputs, (*self._timestamps, self._timestamps[-1])
        decoded = len(outputs) - 1
        return Generation(
            prompt_tokens=list(self._request.prompt_tokens),
            tokens=[output.token for output in outputs if output.token is not None],
            text="".join(output.text_delta for output in outputs),
            finish_reason=outputs[-1].finish_reason or "length",
            seed=self._seed,
            logprobs=[output.logprob for output in outputs if output.logprob],
            timing=Timing(first - started, last - first, decoded / (last - first) if decoded else None),
            drafts=drafts,
        )
