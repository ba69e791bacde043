"""Jobs, each of which generates one sequence for one prompt. A request consists of one or more jobs."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from max_gpt2.errors import RequestError
from max_gpt2.serve.frontend.errors import bad_field
from max_gpt2.serve.frontend.parsing import check_bias, check_stop_ids, check_stops, check_unicode, format_value
from max_gpt2.serve.frontend.schema import CommonFields, whole_number
from max_gpt2.serve.settings import Limits, ServedModel


@dataclass(frozen=True)
class PromptIds:
    """The ids of a prompt, its name in error messages, and its text if it was sent as a string."""

    param: str
    ids: list[int]
    text: str | None = None


def read_prompts(value: object, served: ServedModel, limits: Limits) -> list[PromptIds]:
    """Return the prompts of a request; raises RefusedError, which names the invalid one."""
    if value is None:
        return [PromptIds("prompt", [served.tokenizer.start_id], "")]
    if isinstance(value, str):
        return [_of_text("prompt", value, served)]
    if not isinstance(value, list):
        problem = (
            f"{format_value(value)} is neither a string nor a list. Send a string, token ids, or a list of either."
        )
        raise bad_field("prompt", problem)
    if not value:
        problem = "the list is empty. Send at least one string or token id, or null to start a new document."
        raise bad_field("prompt", problem)
    if _is_id(whole_number(value[0])):
        return [_of_ids("prompt", value, served)]
    if len(value) > limits.max_prompts:
        problem = f"there are {len(value)} prompts; the maximum is {limits.max_prompts}. Send fewer."
        raise bad_field("prompt", problem)
    return [_of_one(f"prompt[{index}]", one, type(value[0]), served) for index, one in enumerate(value)]


def _of_one(param: str, value: object, kind: type, served: ServedModel) -> PromptIds:
    if kind not in (str, list):
        problem = f"{format_value(value)} is not a string, a token id or a list of token ids. Correct it."
        raise bad_field(param, problem)
    if isinstance(value, str) and kind is str:
        return _of_text(param, value, served)
    if isinstance(value, list) and kind is list:
        return _of_ids(param, value, served)
    problem = f"{format_value(value)} differs in type from the first prompt. Send only strings or only token ids."
    raise bad_field(param, problem)


def _of_text(param: str, text: str, served: ServedModel) -> PromptIds:
    if not text:
        raise bad_field(param, "the string is empty. Send some text, or null to start a new document.")
    check_unicode(param, text)
    least = -(-len(text.encode()) // served.token_table.longest)
    if least > served.config.n_positions:  # a lower bound, since encoding a very long text takes seconds
        raise too_long(param, f"at least {least}", served)
    try:
        ids = served.tokenizer.encode(text)
    except RequestError as error:
        raise bad_field(param, str(error)) from error
    _check_length(param, ids, served)
    return PromptIds(param, ids, text)


def _of_ids(param: str, values: Sequence[object], served: ServedModel) -> PromptIds:
    ids: list[int] = []
    vocab = served.config.vocab_size
    if not values:
        raise bad_field(param, "the list is empty. Send at least one token id.")
    _check_length(param, values, served)
    for index, one in enumerate(map(whole_number, values)):
        if not isinstance(one, int) or isinstance(one, bool):
            raise bad_field(f"{param}[{index}]", f"{format_value(one)} is not a token id. Send an integer.")
        if not 0 <= one < vocab:
            problem = f"the token id {format_value(one)} is not in 0 .. {vocab - 1}. Remove it."
            raise bad_field(f"{param}[{index}]", problem, "id_out_of_range")
        ids.append(one)
    return PromptIds(param, ids)


def _check_length(param: str, ids: Sequence[object], served: ServedModel) -> None:
    if len(ids) > served.config.n_positions:
        raise too_long(param, str(len(ids)), served)


def too_long(param: str, tokens: str, served: ServedModel) -> Exception:
    """Return a 400 for a prompt that exceeds the context of the model."""
    context = served.config.n_positions
    problem = f"it has {tokens} tokens, but the context of {served.name} is {context}. Shorten it."
    return bad_field(param, problem, "context_length_exceeded")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


DEFAULT_TOKENS = 16
_SEEDS = 2**63 - 1


@dataclass(frozen=True)
class SamplingOptions:
    """The validated sampling options of a request, with OpenAI's defaults."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    ignore_eos: bool
    stop: list[str]
    logit_bias: dict[str, float]
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Job:
    """One sequence to generate. `logprobs` is None if none are requested; `ranked` jobs need them for `best_of`."""

    prompt: PromptIds
    max_tokens: int
    seed: int
    sampling: SamplingOptions
    logprobs: int | None = None
    echo: bool = False
    ranked: bool = False

    @property
    def scored(self) -> bool:
        """True if the logprobs of the prompt are requested."""
        return self.echo and self.logprobs is not None

    @property
    def needs_worker(self) -> bool:
        """True if the worker has anything to compute."""
        return self.max_tokens > 0 or self.scored

    def payload(self, model: str, stream: bool) -> dict[str, Any]:
        """Return the body of the request to MAX's server: token ids, and every field that affects the output."""
        sampling = self.sampling
        payload: dict[str, Any] = {
            "model": model,
            "prompt": self.prompt.ids,
            "max_tokens": max(self.max_tokens, 1),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "repetition_penalty": sampling.repetition_penalty,
            "seed": worker_seed(self.seed) or 2**63,  # MAX reads 0 as no seed
            "ignore_eos": sampling.ignore_eos,
            "dkv_cache_hint": {"max_gpt2": self._hint(stream)},
            "return_token_ids": True,
            "stream": stream,
        }
        if self.logprobs is not None or self.ranked:
            payload["logprobs"] = max(self.logprobs or 0, 1)  # MAX reads 0 as no logprobs
        if self.scored:
            payload["echo"] = True
        return payload

    def _hint(self, stream: bool) -> dict[str, Any]:
        """Return the fields that MAX lacks; it passes `dkv_cache_hint` on unread."""
        return {"seed": worker_seed(self.seed), "logit_bias": self.sampling.logit_bias, "bursts": not stream}


def fresh_seed() -> int:
    """Return a random seed."""
    return secrets.randbelow(_SEEDS)


def worker_seed(seed: int) -> int:
    """Return the engine's seed, which is not negative, for the seed of a request, which may be."""
    return seed % 2**63


def read_sampling(fields: CommonFields, served: ServedModel) -> SamplingOptions:
    """Return the sampling options of a request; raises RefusedError."""
    return SamplingOptions(
        temperature=0.0 if fields.top_p == 0 else 1.0 if fields.temperature is None else fields.temperature,
        top_p=fields.top_p or 1.0,  # 0 leaves only the most likely token, as temperature 0 does
        top_k=fields.top_k or -1,
        min_p=fields.min_p or 0.0,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        repetition_penalty=1.0 if fields.repetition_penalty is None else fields.repetition_penalty,
        ignore_eos=bool(fields.ignore_eos),
        stop=check_stops(fields.stop),
        logit_bias=check_bias(fields.logit_bias, served),
        stop_ids=check_stop_ids(fields.stop_ids, served),
    )


def read_max_tokens(
    value: int | None, prompt: PromptIds, served: ServedModel, *, param: str, default: int | None, scores: bool = False
) -> int:
    """Return the maximum number of new tokens; raises RefusedError if the context is too small for prompt and tokens.

    A prompt that fills the context can be scored: the last token is generated but never fed to the model.
    """
    context, length = served.config.n_positions, len(prompt.ids)
    remaining = context - length
    if value is None:
        if not remaining:
            problem = f"it has {length} tokens and fills the context of {served.name}. Shorten it."
            raise bad_field(prompt.param, problem, "context_length_exceeded")
        return remaining if default is None else min(default, remaining)
    if value > remaining and not (scores and value <= 1):
        remedy = f"Use at most {remaining}, or shorten the prompt." if remaining else "Shorten the prompt."
        problem = (
            f"{length} prompt tokens and {format_value(value)} new tokens exceed the context of {context}. {remedy}"
        )
        raise bad_field(param, problem, "context_length_exceeded")
    return value
