"""Beam search over a session, without sampling."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.generation.logits import History, Processor, log_softmax
from max_gpt2.generation.outputs import FinishReason
from max_gpt2.generation.params import Request
from max_gpt2.model import Session
from max_gpt2.tokenizer import GPT2Tokenizer

#: When to stop, as in transformers: True as soon as `num_beams` sequences are finished, False when a better one is
#: unlikely, "never" only when a better one is impossible.
EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True)
class BeamSearch:
    """Options of a beam search; the score of a finished sequence is logprob / length**length_penalty.

    Raises RequestError for invalid values.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise RequestError(f"num_beams {self.num_beams} is not a positive integer. Use 1 or more.")
        if not math.isfinite(self.length_penalty):
            raise RequestError(f"length_penalty {self.length_penalty} is not a finite number. Use a finite number.")

    def score(self, logprob: float, length: int) -> float:
        """Return the score that ranks finished sequences."""
        return logprob / length**self.length_penalty


@dataclass(frozen=True)
class Beam:
    """A hypothesis: its ids after the prompt, their total logprob, and its slot in the session while it runs.

    `tokens` includes the stop token, if there is one.
    """

    tokens: tuple[int, ...]
    logprob: float
    slot: int


@dataclass(frozen=True)
class BeamConstraints:
    """The constraints on the hypotheses of a search.

    Attributes:
        processors: Logits processors, applied to the logprobs of each step.
        size: The size of the tokenizer; all ids are below it.
        stop_token_ids: Ids that finish a hypothesis.
        max_length: The length, in ids after the prompt, at which a hypothesis finishes.

    """

    processors: Sequence[Processor]
    size: int
    stop_token_ids: Sequence[int]
    max_length: int

    def apply(self, logits: np.ndarray, history: History) -> np.ndarray:
        """Return the processed logprobs of the next id: [vocab] of float32 -> [vocab] of float64."""
        scores = log_softmax(logits.astype(np.float64))
        scores[self.size :] = -np.inf
        for process in self.processors:
            scores = process(scores, history)
        return scores


def search(session: Session, prompt: Sequence[int], options: BeamSearch, constraints: BeamConstraints) -> list[Beam]:
    """Return at most `num_beams` finished beams, best first; `session` needs a slot for each beam.

    Source: transformers' `GenerationMixin._beam_search`, without sampling.
    """
    stop_token_ids, max_length = constraints.stop_token_ids, constraints.max_length
    width, finished = max(2, 1 + len(stop_token_ids)) * options.num_beams, list[Beam]()
    beams = [Beam((), 0.0, 0)]
    rows = session.extend({0: prompt})
    for length in range(1, max_length + 1):
        logprobs = [
            beam.logprob + constraints.apply(row[-1], History(list(prompt), list(beam.tokens)))
            for beam, row in zip(beams, rows, strict=True)
        ]
        candidates = list(_best(beams, np.stack(logprobs), width))
        finishes = [length == max_length or beam.tokens[-1] in stop_token_ids for beam in candidates]
        finished += [beam for beam, is_end in zip(candidates[: options.num_beams], finishes, strict=False) if is_end]
        finished = sorted(finished, key=lambda beam: -options.score(beam.logprob, len(beam.tokens)))[
            : options.num_beams
        ]
        beams = [beam for beam, is_end in zip(candidates, finishes, strict=True) if not is_end][: options.num_beams]
        if not beams or _is_done(options, beams[0].logprob, finished, length, max_length):
            break
        beams = list(_assign_slots(session, beams))
        rows = session.extend({beam.slot: beam.tokens[-1:] for beam in beams})
    return finished


def _best(beams: Sequence[Beam], logprobs: np.ndarray, width: int) -> Iterator[Beam]:
    """Yield the `width` most likely one-token extensions of the beams, given total logprobs [beams, vocab]."""
    order = np.argsort(-logprobs, axis=None, kind="stable")[:width]
    for row, id_ in zip(*np.unravel_index(order, logprobs.shape), strict=True):
        if (logprob := float(logprobs[row, id_])) > -math.inf:
            beam = beams[row]
            yield replace(beam, tokens=(*beam.tokens, int(id_)), logprob=logprob)


def _is_done(options: BeamSearch, best: float, finished: Sequence[Beam], length: int, max_length: int) -> bool:
    """Return True if no running beam can beat the worst finished one, by the rule of `early_stopping`."""
    if len(finished) < options.num_beams:
        return False
    if options.early_stopping is True:
        return True
    best_length = max_length if options.early_stopping == "never" and options.length_penalty > 0 else length
    worst = min(options.score(beam.logprob, len(beam.tokens)) for beam in finished)
    return options.score(best, best_length) <= worst


def _assign_slots(session: Session, beams: Sequence[Beam]) -> Iterator[Beam]:
    """Give each beam its own slot: the first child of a beam keeps its slot, others get a copy in a free one."""
    taken = {beam.slot for beam in beams}
    free, seen = iter(slot for slot in range(len(session.lengths)) if slot not in taken), set[int]()
    for beam in beams:
        if beam.slot in seen:
            slot = next(free)
            session.copy(beam.slot, slot, int(session.lengths[beam.slot]))
            yield replace(beam, slot=slot)
        else:
            seen.add(beam.slot)
            yield beam


@dataclass(frozen=True)
class BeamOutput:
    """A sequence found by beam search: its ids after the prompt, without the stop token.

    `logprob` is the total logprob of the ids, stop token included, after the logits processors. `score` ranks the
    sequences: `logprob` divided by length**length_penalty.
    """

    tokens: list[int]
    text: str
    finish_reason: FinishReason
    logprob: float
    score: float

    @classmethod
    def of(
        cls, beam: Beam, options: BeamSearch, stop_token_ids: Sequence[int], tokenizer: GPT2Tokenizer
    ) -> "BeamOutput":
        """Return the output for a finished beam."""
        stopped = beam.tokens[-1] in stop_token_ids
        tokens = list(beam.tokens[:-1] if stopped else beam.tokens)
        score = options.score(beam.logprob, len(beam.tokens))
        return cls(tokens, tokenizer.decode(tokens), "stop" if stopped else "length", beam.logprob, score)


def check_beams(request: Request) -> None:
    """Raise RequestError if a request has options that beam search does not support."""
    requested = {
        "max_new_tokens 0": request.max_new_tokens == 0,
        "stop": bool(request.stop),
        "logprobs": request.logprobs is not None,
        "context_overflow": request.context_overflow != "stop",
    }
    if names := [name for name, is_requested in requested.items() if is_requested]:
        raise RequestError(f"Beam search does not support {', '.join(names)}. Remove it; stop_ids are supported.")
