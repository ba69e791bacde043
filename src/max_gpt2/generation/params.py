"""Requests and sampling parameters, and their validation."""

import math
import secrets
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict, get_args

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError, UnknownTextWarning, listed
from max_gpt2.model import cache_bytes
from max_gpt2.system.machine import memory
from max_gpt2.tokenizer import GPT2Tokenizer


def check_cache_memory(config: GPT2Config, slots: int, capacity: int) -> None:
    """Raise RequestError if a KV cache of `slots` x `capacity` tokens does not fit in the available memory."""
    needed, (_, available) = cache_bytes(config, slots, capacity), memory()
    if needed > available:
        fewer = "a smaller batch size, fewer samples" if slots > 1 else "a shorter prompt"
        raise RequestError(
            f"The KV cache of {slots} x {capacity} tokens needs {needed / 1e9:.1f} GB of memory, but "
            f"{available / 1e9:.1f} GB are available. Use {fewer} or fewer new tokens."
        )


ContextOverflow = Literal["stop", "shift"]


@dataclass(frozen=True)
class SamplingParams:
    """Parameters that choose the next token, with the names and the meaning that transformers and OpenAI give them.

    `logit_bias`, `repetition_penalty`, `presence_penalty` with `frequency_penalty`, `no_repeat_ngram_size`, `bad_words`
    (sequences of ids) and `min_new_tokens` change the scores, in this order. With `temperature` 0, the next token is
    the argmax, the lowest id of a tie. Above 0, it is drawn from softmax(scores / temperature), restricted to the
    `top_k` most likely ids (0 for all), to the smallest set with a total probability of `top_p` (1 for all), and to ids
    with at least `min_p` times the top probability. The same `seed` draws the same tokens; None draws a new seed.

    Raises RequestError that lists all invalid values.
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
            raise RequestError(listed("Invalid sampling parameters", problems, "Correct them."))


def _is_count(value: int) -> bool:
    return value >= 0


def _is_finite(value: float) -> bool:
    return math.isfinite(value)


_COUNT = (_is_count, "a non-negative integer")
_FINITE = (_is_finite, "a finite number")
_CHECKS: dict[str, tuple[Callable[..., bool], str]] = {
    "temperature": (lambda value: 0 <= value < math.inf, "a finite number >= 0 (0 is greedy)"),
    "top_k": _COUNT,
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1 (1 keeps all tokens)"),
    "min_p": (lambda value: 0 <= value <= 1, "from 0 to 1 (0 keeps all tokens)"),
    "repetition_penalty": (lambda value: 0 < value < math.inf, "a finite number above 0 (1 is no penalty)"),
    "presence_penalty": _FINITE,
    "frequency_penalty": _FINITE,
    "no_repeat_ngram_size": _COUNT,
    "logit_bias": (lambda bias: all(map(_is_finite, bias.values())), "a mapping from token ids to finite numbers"),
    "bad_words": (lambda sequences: all(sequences), "a list of non-empty sequences of token ids"),
    "min_new_tokens": _COUNT,
    "seed": (lambda value: value is None or value >= 0, "a non-negative integer"),
}


@dataclass(frozen=True)
class Request:
    """A generation request: the token ids of a prompt, and the options for its continuation.

    Generation stops at an end-of-text token or one of `stop_ids`, which are not part of the output; before the first of
    the strings `stop`, or at a special token that is spelled like one of them; after `max_new_tokens`; or when the
    context is full. With `context_overflow` "shift", a full context is shifted instead: the model keeps its last half
    and continues. `logprobs` is the number of most likely ids to report for each generated token; None reports no
    logprobs.
    """

    prompt_tokens: Sequence[int]
    max_new_tokens: int = 50
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: Sequence[str] = ()
    stop_ids: Sequence[int] = ()
    logprobs: int | None = None
    context_overflow: ContextOverflow = "stop"

    def with_seed(self, seed: int) -> "Request":
        """Return the same request with another seed."""
        return replace(self, sampling=replace(self.sampling, seed=seed))

    def samples(self, n: int) -> list["Request"]:
        """Return `n` copies of the request with the seeds `seed`, `seed` + 1, ...; a seed of None draws the first."""
        if n < 1:
            raise RequestError(f"n {n} is not a positive integer. Use 1 or more.")
        seed = fresh_seed() if self.sampling.seed is None else self.sampling.seed
        return [self.with_seed(seed + index) for index in range(n)]

    def capacity(self, config: GPT2Config) -> int:
        """Return the cache capacity, in tokens, that the request needs."""
        return min(config.n_positions, len(self.prompt_tokens) + self.max_new_tokens)


class LogitsOptions(TypedDict, total=False):
    """The fields of `SamplingParams` that change logits, as keyword options; beam search supports these."""

    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    no_repeat_ngram_size: int
    logit_bias: Mapping[int, float]
    bad_words: Sequence[str | Sequence[int]]
    min_new_tokens: int


class BeamSearchOptions(LogitsOptions, total=False):
    """The keyword options of `GPT2.beam_search` besides those of `BeamSearch`."""

    max_new_tokens: int
    stop_ids: Sequence[int]


class GenerationOptions(BeamSearchOptions, total=False):
    """The keyword options of `GPT2.generate` and `GPT2.stream`: the fields of `SamplingParams` and `Request`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: Sequence[str]
    logprobs: int | None
    context_overflow: ContextOverflow


def fresh_seed() -> int:
    """Return a random seed."""
    return secrets.randbelow(2**31)


def check_prompt(
    config: GPT2Config, prompt_tokens: Sequence[int], context_overflow: ContextOverflow = "stop", *, can_shift: bool
) -> None:
    """Raise RequestError for an empty prompt, ids out of range, or a prompt over the context if that is not shifted.

    With `can_shift`, the message suggests the context shift.
    """
    check_ids(prompt_tokens, config.vocab_size, "prompt id")
    if not prompt_tokens:
        raise RequestError("The prompt has no tokens. Give at least one id, or an empty string for end-of-text.")
    if context_overflow not in get_args(ContextOverflow):
        raise RequestError(f'context_overflow {context_overflow!r} is neither "stop" nor "shift". Use one of them.')
    if len(prompt_tokens) > config.n_positions and context_overflow == "stop":
        hint = ', or set context_overflow to "shift", which keeps the last half of the context' if can_shift else ""
        raise RequestError(
            f"The prompt's {len(prompt_tokens)} tokens exceed the model's context of {config.n_positions}. Shorten "
            f"it{hint}."
        )


def check_ids(ids: Sequence[int], vocab_size: int, kind: str) -> None:
    """Raise RequestError if an id is not in 0 .. `vocab_size` - 1; `kind` names the ids in the message."""
    if invalid := [id_ for id_ in ids if not 0 <= id_ < vocab_size]:
        raise RequestError(f"The {kind} {invalid[0]} is not in 0 .. {vocab_size - 1}. Remove it.")


def encode_prompt(tokenizer: GPT2Tokenizer, prompt: str) -> list[int]:
    """Return the token ids of a prompt; an empty prompt is the token that starts a text, as in the training data.

    Warns about characters that the tokenizer does not know; raises RequestError when it knows none.
    """
    return encode_text(tokenizer, prompt) or [tokenizer.start_id]


def encode_text(tokenizer: GPT2Tokenizer, text: str) -> list[int]:
    """Return the token ids of a text; warns and raises as `encode_prompt` does."""
    ids = tokenizer.encode(text)
    if unknown := tokenizer.unknown_text(text):
        message = f"The tokenizer does not know these characters of the text: {unknown[:60]!r}. They are lost."
        warnings.warn(message, UnknownTextWarning, stacklevel=2)
    return ids


def encode_words(tokenizer: GPT2Tokenizer, word: str) -> list[list[int]]:
    """Return the sequences of ids of a word to exclude: with and without a leading space, or of one special token."""
    if ids := tokenizer.special_token_ids([word]):
        return [ids]
    return [tokenizer.encode(variant) for variant in dict.fromkeys([word, " " + word.lstrip(" ")])]


def read_bad_words(tokenizer: GPT2Tokenizer, words: Iterable[str | Sequence[int]]) -> list[Sequence[int]]:
    """Return the sequences of ids of words to exclude, each given as a text or as a sequence of ids."""
    found: list[Sequence[int]] = []
    for word in words:
        if word == "":
            raise RequestError("A text in bad_words is empty. Remove it.")
        found += encode_words(tokenizer, word) if isinstance(word, str) else [word]
    return found
