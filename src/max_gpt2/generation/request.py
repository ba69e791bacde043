"""What is asked of an engine, and whether it can be carried out."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation.sampling import Sampling, make_sampler
from max_gpt2.generation.text_stream import TextStream
from max_gpt2.tokenizer import GPT2Tokenizer

ContextOverflow = Literal["stop", "slide"]


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


def check_request(config: GPT2Config, tokenizer: GPT2Tokenizer, request: Request) -> None:
    """Raise RequestError when a model cannot carry a request out: nothing has to be loaded or compiled to know."""
    check_prompt(config, request.prompt_tokens, request.context_overflow)
    if request.max_new_tokens < 0:
        raise RequestError(f"max_new_tokens {request.max_new_tokens} is negative. Use a number from 0 on.")
    check_ids(request.stop_ids, config.vocab_size, "stop id")
    if request.logprobs is not None and not 0 <= request.logprobs <= config.vocab_size:
        raise RequestError(f"logprobs {request.logprobs} is not in 0 .. {config.vocab_size}. Ask for fewer.")
    make_sampler(request.sampling, 0, tokenizer.size)
    TextStream(tokenizer, request.stop)


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
