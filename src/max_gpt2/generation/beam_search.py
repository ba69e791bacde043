"""What a beam search returns, and what it cannot do."""

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

#: When the search ends: True as soon as there are enough texts, False when a better one seems unlikely, "never" when
#: there can be none.
EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True)
class BeamSearch:
    """How to search: `num_beams` texts grow side by side; a text that ended has the score logprob / length**penalty.

    Raises RequestError for values that are impossible.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise RequestError(f"num_beams {self.num_beams} is not a whole number from 1 on. Correct it.")
        if not math.isfinite(self.length_penalty):
            raise RequestError(f"length_penalty {self.length_penalty} is not a finite number. Correct it.")

    def score(self, logprob: float, length: int) -> float:
        """Return what texts are ranked by."""
        return logprob / length**self.length_penalty


@dataclass(frozen=True)
class Beam:
    """A text: its ids after the prompt, and the logarithm of their probability; its slot in the session while it grows.

    The id that ended it, if one did, is the last.
    """

    tokens: tuple[int, ...]
    logprob: float
    slot: int


def search(
    session: Session,
    prompt: Sequence[int],
    how: BeamSearch,
    processors: Sequence[Processor],
    size: int,
    endings: Sequence[int],
    most: int,
) -> list[Beam]:
    """Return the texts found, at most `num_beams`, the best first; `session` has a slot for each.

    A text ends with one of `endings` or after `most` ids, all of which are below `size`. Source: transformers'
    `GenerationMixin._beam_search`, without sampling.
    """
    width, ended = max(2, 1 + len(endings)) * how.num_beams, list[Beam]()
    beams = [Beam((), 0.0, 0)]
    rows = session.extend({0: prompt})
    for length in range(1, most + 1):
        chances = [
            beam.logprob + _processed(row[-1], History(list(prompt), list(beam.tokens)), processors, size)
            for beam, row in zip(beams, rows, strict=True)
        ]
        candidates = list(_best(beams, np.stack(chances), width))
        ends = [length == most or beam.tokens[-1] in endings for beam in candidates]
        ended += [beam for beam, end in zip(candidates[: how.num_beams], ends, strict=False) if end]
        ended = sorted(ended, key=lambda beam: -how.score(beam.logprob, len(beam.tokens)))[: how.num_beams]
        beams = [beam for beam, end in zip(candidates, ends, strict=True) if not end][: how.num_beams]
        if not beams or _is_over(how, beams[0].logprob, ended, length, most):
            break
        beams = list(_in_slots(session, beams))
        rows = session.extend({beam.slot: beam.tokens[-1:] for beam in beams})
    return ended


def _processed(logits: np.ndarray, history: History, processors: Sequence[Processor], size: int) -> np.ndarray:
    scores = log_softmax(logits.astype(np.float64))
    scores[size:] = -np.inf
    for process in processors:
        scores = process(scores, history)
    return scores


def _best(beams: Sequence[Beam], chances: np.ndarray, width: int) -> Iterator[Beam]:
    """Yield the `width` likeliest continuations of the beams by one id, from chances [beams, vocab]."""
    order = np.argsort(-chances, axis=None, kind="stable")[:width]
    for row, id_ in zip(*np.unravel_index(order, chances.shape), strict=True):
        if (logprob := float(chances[row, id_])) > -math.inf:
            beam = beams[row]
            yield replace(beam, tokens=(*beam.tokens, int(id_)), logprob=logprob)


def _is_over(how: BeamSearch, best: float, ended: Sequence[Beam], length: int, most: int) -> bool:
    """Whether no text that still grows can be better than the worst of those that have ended."""
    if len(ended) < how.num_beams:
        return False
    if how.early_stopping is True:
        return True
    hoped = most if how.early_stopping == "never" and how.length_penalty > 0 else length
    worst = min(how.score(beam.logprob, len(beam.tokens)) for beam in ended)
    return how.score(best, hoped) <= worst


def _in_slots(session: Session, beams: Sequence[Beam]) -> Iterator[Beam]:
    """Give each beam a slot of its own: the first that grew out of a text stays where that is, others get a copy."""
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
class BeamText:
    """A text that was found: its ids after the prompt, without one that ended it.

    `logprob` is the natural logarithm of the probability of all ids, the ending included, after the penalties; `score`
    is what the texts are ranked by, `logprob` divided by the length to the power of `length_penalty`.
    """

    tokens: list[int]
    text: str
    finish_reason: FinishReason
    logprob: float
    score: float

    @classmethod
    def of(cls, beam: Beam, how: BeamSearch, endings: Sequence[int], tokenizer: GPT2Tokenizer) -> "BeamText":
        """Make one of what the search found."""
        stopped = beam.tokens[-1] in endings
        tokens = list(beam.tokens[:-1] if stopped else beam.tokens)
        score = how.score(beam.logprob, len(beam.tokens))
        return cls(tokens, tokenizer.decode(tokens), "stop" if stopped else "length", beam.logprob, score)


def check_beams(request: Request) -> None:
    """Raise RequestError when a request asks for what a beam search does not have."""
    asked = {
        "max_new_tokens 0": request.max_new_tokens == 0,
        "stop": bool(request.stop),
        "logprobs": request.logprobs is not None,
        "context_overflow": request.context_overflow != "stop",
    }
    if names := [name for name, is_asked in asked.items() if is_asked]:
        raise RequestError(f"A beam search does not go with {', '.join(names)}. Leave it out; stop_ids can end a text.")
