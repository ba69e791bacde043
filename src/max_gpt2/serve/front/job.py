"""What the worker is asked: one prompt, one text. A request is one or more of these."""

import secrets
from dataclasses import dataclass
from typing import Any

from max_gpt2.serve.front.errors import bad_field
from max_gpt2.serve.front.fields import Common
from max_gpt2.serve.front.prompts import PromptIds, too_long
from max_gpt2.serve.front.served import Served
from max_gpt2.serve.front.validate import check_bias, check_stops, shown

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
        """Whether the log probabilities of the prompt are asked for."""
        return self.echo and self.logprobs is not None

    @property
    def needs_worker(self) -> bool:
        """Whether there is anything to compute."""
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


def read_sampling(fields: Common, served: Served) -> Sampling:
    """Return how tokens are chosen; raises RefusedError."""
    return Sampling(
        temperature=0.0 if fields.top_p == 0 else 1.0 if fields.temperature is None else fields.temperature,
        top_p=fields.top_p or 1.0,  # 0 keeps the likeliest token only, which is what temperature 0 says
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
    asked: int | None, prompt: PromptIds, served: Served, *, param: str, default: int | None, scores: bool = False
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
            f"{length} tokens of the prompt and {shown(asked)} new ones exceed the context of {context}. {remedy}",
            "context_length_exceeded",
        )
    return asked
