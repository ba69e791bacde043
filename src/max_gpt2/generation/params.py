"""What is asked of an engine, and whether it can be carried out."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError, listed
from max_gpt2.model import cache_bytes
from max_gpt2.system.machine import memory
from max_gpt2.tokenizer import GPT2Tokenizer


def check_room(config: GPT2Config, slots: int, room: int) -> None:
    """Raise RequestError when `slots` texts of `room` tokens need more memory than is available."""
    needed, (_, available) = cache_bytes(config, slots, room), memory()
    if needed > available:
        fewer = "a smaller batch size, fewer samples" if slots > 1 else "a shorter prompt"
        raise RequestError(
            f"The keys and values of {slots} x {room} tokens need {needed / 1e9:.1f} GB of memory, and "
            f"{available / 1e9:.1f} GB are available. Use {fewer} or fewer new tokens."
        )


ContextOverflow = Literal["stop", "slide"]


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


@dataclass(frozen=True)
class Request:
    """A prompt's ids, and how to continue it.

    A text ends with an end-of-text token or one of `stop_ids`, neither of which is part of it; before the first of the
    strings `stop`; after `max_new_tokens`; or where it fills the model's context, unless `context_overflow` is "slide":
    then it goes on, and the model sees the last half of the context from there. `logprobs` is how many of the likeliest
    ids to report with each that is written, None for no report at all.
    """

    prompt_tokens: Sequence[int]
    max_new_tokens: int = 50
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[str] = ()
    stop_ids: Sequence[int] = ()
    logprobs: int | None = None
    context_overflow: ContextOverflow = "stop"

    def with_seed(self, seed: int) -> "Request":
        """Return the same request with another seed."""
        return replace(self, sampling=replace(self.sampling, seed=seed))

    def samples(self, n: int) -> list["Request"]:
        """Return the request `n` times, each with a seed of its own; the first has this one's, or one that is drawn."""
        if n < 1:
            raise RequestError(f"n {n} is not a whole number from 1 on. Correct it.")
        seed = fresh_seed() if self.sampling.seed is None else self.sampling.seed
        return [self.with_seed(seed + one) for one in range(n)]

    def room(self, config: GPT2Config) -> int:
        """Return how many tokens of the text a model has to keep at most."""
        return min(config.n_positions, len(self.prompt_tokens) + self.max_new_tokens)


def fresh_seed() -> int:
    """Draw a seed."""
    return secrets.randbelow(2**31)


def check_prompt(config: GPT2Config, prompt_tokens: Sequence[int], context_overflow: ContextOverflow = "stop") -> None:
    """Raise RequestError: no ids, ids out of range, or more than the context unless that slides."""
    check_ids(prompt_tokens, config.vocab_size, "prompt id")
    if not prompt_tokens:
        raise RequestError("The prompt has no tokens. Give at least one id, or an empty text to start from nothing.")
    if context_overflow not in get_args(ContextOverflow):
        raise RequestError(f'context_overflow {context_overflow!r} is neither "stop" nor "slide". Use one of them.')
    if len(prompt_tokens) > config.n_positions and context_overflow == "stop":
        raise RequestError(
            f"The prompt's {len(prompt_tokens)} tokens exceed the model's context of {config.n_positions}. Shorten it, "
            "or let the context slide: the model then sees the last half of it."
        )


def check_ids(ids: Sequence[int], vocab: int, what: str) -> None:
    """Raise RequestError when an id is not below `vocab`."""
    if strangers := [id_ for id_ in ids if not 0 <= id_ < vocab]:
        raise RequestError(f"The {what} {strangers[0]} is not in 0 .. {vocab - 1}. Remove it.")


def encode_prompt(tokenizer: GPT2Tokenizer, prompt: str) -> list[int]:
    """Return a prompt's ids; an empty prompt is one end-of-text token, with which GPT-2 starts a text."""
    return tokenizer.encode(prompt) or [tokenizer.end_of_text]
