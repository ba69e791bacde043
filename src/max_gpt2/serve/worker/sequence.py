"""The state of a sequence in the worker: its sampler, its logprobs, and the batch of new tokens."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, islice
from typing import Any

import numpy as np
from max.pipelines.context import LogProbabilities, TextContext

from max_gpt2.errors import RequestError
from max_gpt2.generation.logits import History, Sampler, TokenLogprob, make_sampler, token_logprob
from max_gpt2.generation.params import SamplingParams
from max_gpt2.model.batch import int64_arrays

logger = logging.getLogger("max_gpt2.serve")


@dataclass(frozen=True)
class PagedBatch:
    """New tokens of several sequences; the fields are the inputs of `max_gpt2.model.transformer.ServedModule`.

    `counts` [batch] are the numbers of prompt tokens to score, `top` the most alternatives that one of them needs.
    """

    ids: np.ndarray
    positions: np.ndarray
    row_offsets: np.ndarray
    cache_lengths: np.ndarray
    logits_indices: np.ndarray
    sampled: np.ndarray
    scored: np.ndarray
    targets: np.ndarray
    counts: np.ndarray
    top: int = field(kw_only=True)

    @classmethod
    def of(cls, contexts: Sequence[TextContext]) -> "PagedBatch":
        """Select the last new token of each sequence to sample from, and prompt tokens with requested logprobs."""
        counts = [context.tokens.active_length for context in contexts]
        lengths = [context.tokens.processed_length for context in contexts]
        offsets = [0, *accumulate(counts)]
        targets = [prompt_targets(context) for context in contexts]
        scored = [len(one) for one in targets]
        rows = [count if one else 1 for count, one in zip(counts, scored, strict=True)]
        starts = [0, *accumulate(rows)]
        arrays = int64_arrays(
            chain.from_iterable(context.tokens.active.tolist() for context in contexts),
            chain.from_iterable(range(length, length + count) for length, count in zip(lengths, counts, strict=True)),
            offsets,
            lengths,
            chain.from_iterable(range(end - count, end) for end, count in zip(offsets[1:], rows, strict=True)),
            (start - 1 for start in starts[1:]),
            chain.from_iterable(range(start, start + count) for start, count in zip(starts, scored, strict=False)),
            chain.from_iterable(targets),
            scored,
        )
        wanted = (context.log_probabilities for context, count in zip(contexts, scored, strict=True) if count)
        return cls(*arrays, top=max(wanted, default=0))


def prompt_targets(context: TextContext) -> list[int]:
    """Return the prompt tokens that follow the new tokens and have requested logprobs."""
    if not returns_prompt_logprobs(context):
        return []
    start = context.tokens.processed_length + 1
    end = min(start + context.tokens.active_length, context.tokens.prompt_length)
    return list(context.tokens.all[start:end].tolist())


def returns_prompt_logprobs(context: TextContext) -> bool:
    """Return True if prompt logprobs are requested and the prompt is being computed."""
    return bool(context.log_probabilities) and context.log_probabilities_echo and context.tokens.generated_length == 0


#: The key of our own fields in a request's `dkv_cache_hint`, which MAX passes on unread.
HINT = "max_gpt2"


def sampling_params(context: TextContext) -> tuple[SamplingParams, int]:
    """Return the sampling parameters and the seed; MAX has no field for `logit_bias` and cannot express seed 0.

    Raises RequestError for invalid parameters.
    """
    params, ours = context.sampling_params, _hint(context.dkv_cache_hint)
    seed = int(ours.get("seed", params.seed))
    sampling = SamplingParams(
        temperature=params.temperature,
        top_k=max(0, params.top_k),
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias={int(id_): float(amount) for id_, amount in (ours.get("logit_bias") or {}).items()},
        min_new_tokens=params.min_new_tokens,
        seed=seed,
    )
    return sampling, seed


def _hint(content: bytes | None) -> dict[str, Any]:
    """Return our fields, empty if they are missing or unreadable."""
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    ours = found.get(HINT) if isinstance(found, dict) else None
    return ours if isinstance(ours, dict) else {}


@dataclass
class SequenceState:
    """The state of one sequence; `logprobs` are those of the last step.

    `bursts` is True if the tokens of several steps may be returned together.
    """

    sample: Sampler
    prompt_length: int
    bursts: bool = False
    echoed: list[TokenLogprob] = field(default_factory=list)
    logprobs: LogProbabilities | None = None
    started: bool = False

    @classmethod
    def of(cls, context: TextContext, size: int) -> "SequenceState":
        """Create the state of a new sequence; `size` is the number of ids in the tokenizer."""
        sampling, seed = sampling_params(context)
        sample = make_sampler(sampling, seed, size, sorted(context.eos_tracker.eos_token_ids))
        return cls(sample, context.tokens.prompt_length, _hint(context.dkv_cache_hint).get("bursts") is True)

    def step(self, context: TextContext, logits: np.ndarray, echoed: list[TokenLogprob]) -> int:
        """Sample the next token from logits [vocab]; return 0 after a chunk that does not end the prompt.

        `echoed` are the logprobs of prompt tokens, with at least as many alternatives as requested.
        """
        num_logprobs, tokens = context.log_probabilities, context.tokens
        self.logprobs = None
        if not self.started:
            self.echoed += [replace(one, top=dict(islice(one.top.items(), num_logprobs))) for one in echoed]
        if tokens.actively_chunked:
            return 0
        # After preemption, MAX resubmits the sequence with its output appended to the prompt.
        ids = tokens.all.tolist()
        try:
            token = self.sample(logits, History(ids[: self.prompt_length], ids[self.prompt_length :]))
        except RequestError as error:  # the logits are NaN, for example because weights are not finite
            logger.warning("Sequence %s ends early: %s", context.request_id, error)
            token = min(context.eos_tracker.eos_token_ids, default=0)
        self.started = True
        if num_logprobs:
            self.logprobs = _to_max([*self.echoed, token_logprob(logits, token, num_logprobs)])
            self.echoed = []
        return token


def _to_max(found: list[TokenLogprob]) -> LogProbabilities:
    return LogProbabilities(
        token_log_probabilities=[one.logprob for one in found],
        top_log_probabilities=[{**one.top, one.token: one.logprob} for one in found],
        sampled_token_ids=[one.token for one in found],
    )
