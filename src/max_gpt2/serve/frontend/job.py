"""Jobs: one prompt and one sequence each. A request consists of one or more jobs."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from max_gpt2.serve.frontend.errors import bad_field
from max_gpt2.serve.frontend.parsing import check_bias, check_stops, check_unicode, format_value
from max_gpt2.serve.frontend.schema import CommonFields
from max_gpt2.serve.settings import Limits, ServedModel


@dataclass(frozen=True)
class PromptIds:
    """The ids of a prompt, how errors call it, and its text if it came as one."""

    param: str
    ids: list[int]
    text: str | None = None


def read_prompts(value: object, served: ServedModel, limits: Limits) -> list[PromptIds]:
    """Return the prompts of a request; raises RefusedError that names the one at fault."""
    if value is None:
        return [PromptIds("prompt", [served.tokenizer.end_of_text], "")]
    if isinstance(value, str):
        return [_of_text("prompt", value, served)]
    if not isinstance(value, list):
        raise bad_field("prompt", f"{format_value(value)} is neither a text nor a list. Send a text, texts or ids.")
    if not value:
        raise bad_field("prompt", "the list is empty. Send at least one text or id, or null to start a new document.")
    if _is_id(value[0]):
        return [_of_ids("prompt", value, served)]
    if len(value) > limits.max_prompts:
        raise bad_field("prompt", f"there are {len(value)}, and at most {limits.max_prompts} are possible. Send fewer.")
    return [_of_one(f"prompt[{place}]", one, type(value[0]), served) for place, one in enumerate(value)]


def _of_one(param: str, value: object, kind: type, served: ServedModel) -> PromptIds:
    if kind not in (str, list):
        raise bad_field(param, f"{format_value(value)} is neither a text nor an id nor a list of ids. Correct it.")
    if isinstance(value, str) and kind is str:
        return _of_text(param, value, served)
    if isinstance(value, list) and kind is list:
        return _of_ids(param, value, served)
    raise bad_field(
        param, f"{format_value(value)} is not of the kind of the first prompt. Send all as texts, or all as ids."
    )


def _of_text(param: str, text: str, served: ServedModel) -> PromptIds:
    if not text:
        raise bad_field(param, "the text is empty. Send one, or null to start a new document.")
    check_unicode(param, text)
    least = -(-len(text.encode()) // served.token_table.longest)
    if least > served.config.n_positions:  # without counting them, which takes long in a very long text
        raise too_long(param, f"at least {least}", served)
    ids = served.tokenizer.encode(text)
    _check_length(param, ids, served)
    return PromptIds(param, ids, text)


def _of_ids(param: str, values: Sequence[object], served: ServedModel) -> PromptIds:
    ids: list[int] = []
    vocab = served.config.vocab_size
    if not values:
        raise bad_field(param, "the list is empty. Send at least one id.")
    _check_length(param, values, served)
    for place, one in enumerate(values):
        if not isinstance(one, int) or isinstance(one, bool):
            raise bad_field(f"{param}[{place}]", f"{format_value(one)} is not an id. Send whole numbers.")
        if not 0 <= one < vocab:
            problem = f"the id {format_value(one)} is not in 0 .. {vocab - 1}. Remove it."
            raise bad_field(f"{param}[{place}]", problem, "id_out_of_range")
        ids.append(one)
    return PromptIds(param, ids)


def _check_length(param: str, ids: Sequence[object], served: ServedModel) -> None:
    if len(ids) > served.config.n_positions:
        raise too_long(param, str(len(ids)), served)


def too_long(param: str, tokens: str, served: ServedModel) -> Exception:
    """Return the 400 for a prompt that the model's context cannot hold."""
    context = served.config.n_positions
    problem = f"it has {tokens} tokens, and the context of {served.name} is {context}. Shorten it."
    return bad_field(param, problem, "context_length_exceeded")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


DEFAULT_TOKENS = 16
_SEEDS = 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; checked, with OpenAI's defaults."""

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


@dataclass(frozen=True)
class Job:
    """One text to write. `logprobs` None means none; what is `ranked` needs them, though nobody is shown them."""

    prompt: PromptIds
    max_tokens: int
    seed: int
    sampling: Sampling
    logprobs: int | None = None
    echo: bool = False
    ranked: bool = False

    @property
    def scored(self) -> bool:
        """True if the log probabilities of the prompt are requested."""
        return self.echo and self.logprobs is not None

    @property
    def needs_worker(self) -> bool:
        """True if the worker has anything to compute."""
        return self.max_tokens > 0 or self.scored

    def payload(self, model: str, stream: bool) -> dict[str, Any]:
        """Return what MAX's server is sent: ids, never a text, and every field that changes the answer."""
        sampling = self.sampling
        asked: dict[str, Any] = {
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
            # What MAX has no field for goes the way that it hands on unread.
            "dkv_cache_hint": {"max_gpt2": {"seed": worker_seed(self.seed), "logit_bias": sampling.logit_bias}},
            "return_token_ids": True,
            "stream": stream,
        }
        if self.logprobs is not None or self.ranked:
            asked["logprobs"] = max(self.logprobs or 0, 1)  # 0 would be none at all
        if self.scored:
            asked["echo"] = True
        return asked


def fresh_seed() -> int:
    """Draw a seed."""
    return secrets.randbelow(_SEEDS)


def worker_seed(seed: int) -> int:
    """Return the engine's seed for a request's, which may be negative."""
    return seed % 2**63


def read_sampling(fields: CommonFields, served: ServedModel) -> Sampling:
    """Return how tokens are chosen; raises RefusedError."""
    return Sampling(
        temperature=0.0 if fields.top_p == 0 else 1.0 if fields.temperature is None else fields.temperature,
        top_p=fields.top_p or 1.0,  # 0 keeps the most likely token only, as temperature 0 does
        top_k=fields.top_k or -1,
        min_p=fields.min_p or 0.0,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        repetition_penalty=1.0 if fields.repetition_penalty is None else fields.repetition_penalty,
        ignore_eos=bool(fields.ignore_eos),
        stop=check_stops(fields.stop),
        logit_bias=check_bias(fields.logit_bias, served),
    )


def read_max_tokens(
    asked: int | None, prompt: PromptIds, served: ServedModel, *, param: str, default: int | None, scores: bool = False
) -> int:
    """Return how many tokens to write; raises RefusedError when they do not fit into the context after the prompt.

    Scoring a prompt that fills the context is possible: its one new token, which nobody reads, needs no place.
    """
    context, length = served.config.n_positions, len(prompt.ids)
    room = context - length
    if asked is None:
        if not room:
            raise too_long(prompt.param, f"{length} (no place is left for another)", served)
        return room if default is None else min(default, room)
    if asked > room and not (scores and asked <= 1):
        remedy = f"Use at most {room}, or shorten the prompt." if room else "Shorten the prompt."
        raise bad_field(
            param,
            f"{length} tokens of the prompt and {format_value(asked)} new ones exceed the context of {context}. "
            f"{remedy}",
            "context_length_exceeded",
        )
    return asked
