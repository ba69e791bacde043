"""What is asked of an engine, and whether it can be carried out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation.sampling import Sampling, make_sampler
from max_gpt2.generation.text_stream import TextStream
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class Request:
    """A prompt's ids, and how to continue it.

    A text ends with an end-of-text token or one of `stop_ids`, neither of which is part of it; before the first of the
    strings `stop`; or after `max_new_tokens`. `logprobs` is how many of the likeliest ids to report with each that is
    written, None for no report at all.
    """

    prompt_tokens: Sequence[int]
    max_new_tokens: int = 50
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[str] = ()
    stop_ids: Sequence[int] = ()
    logprobs: int | None = None

    def with_seed(self, seed: int) -> "Request":
        """Return the same request with another seed."""
        return replace(self, sampling=replace(self.sampling, seed=seed))


def check_request(config: GPT2Config, tokenizer: GPT2Tokenizer, request: Request) -> None:
    """Raise RequestError when a model cannot carry a request out: nothing has to be loaded or compiled to know."""
    check_prompt(config, request.prompt_tokens, request.max_new_tokens)
    check_ids(request.stop_ids, config.vocab_size, "stop id")
    if request.logprobs is not None and not 0 <= request.logprobs <= config.vocab_size:
        raise RequestError(f"logprobs {request.logprobs} is not in 0 .. {config.vocab_size}. Ask for fewer.")
    make_sampler(request.sampling, 0, tokenizer.size)
    TextStream(tokenizer, request.stop)


def check_prompt(config: GPT2Config, prompt_tokens: Sequence[int], max_new_tokens: int) -> None:
    """Raise RequestError: no ids, ids out of range, or no room in the context."""
    check_ids(prompt_tokens, config.vocab_size, "prompt id")
    if not prompt_tokens:
        raise RequestError("The prompt has no tokens. Give at least one id, or an empty text to start from nothing.")
    if max_new_tokens < 0:
        raise RequestError(f"max_new_tokens {max_new_tokens} is negative. Use a number from 0 on.")
    if len(prompt_tokens) + max_new_tokens > config.n_positions:
        room = max(0, config.n_positions - len(prompt_tokens))
        raise RequestError(
            f"The prompt's {len(prompt_tokens)} tokens and max_new_tokens {max_new_tokens} exceed the model's context "
            f"of {config.n_positions}. Shorten the prompt, or ask for at most {room}."
        )


def check_ids(ids: Sequence[int], vocab: int, what: str) -> None:
    """Raise RequestError when an id is not below `vocab`."""
    if strangers := [id_ for id_ in ids if not 0 <= id_ < vocab]:
        raise RequestError(f"The {what} {strangers[0]} is not in 0 .. {vocab - 1}. Remove it.")


def encode_prompt(tokenizer: GPT2Tokenizer, prompt: str) -> list[int]:
    """Return a prompt's ids; an empty prompt is one end-of-text token, with which GPT-2 starts a text."""
    return tokenizer.encode(prompt) or [tokenizer.end_of_text]
