"""The state of a sequence in the worker: its sampler, its logprobs, and the batch of new tokens."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from max.pipelines.context import LogProbabilities, TextContext

from max_gpt2.errors import RequestError
from max_gpt2.generation.logits import History, Sampler, TokenLogprob, make_sampler, token_logprob
from max_gpt2.generation.params import SamplingParams

logger = logging.getLogger("max_gpt2.serve")


@dataclass(frozen=True)
class PagedBatch:
    """New tokens of several sequences; the fields are those of `max_gpt2.model.batch.RaggedBatch`, without slots."""

    ids: np.ndarray
    positions: np.ndarray
    row_offsets: np.ndarray
    cache_lengths: np.ndarray
    logits_indices: np.ndarray
    cuts: np.ndarray

    @classmethod
    def of(cls, contexts: Sequence[TextContext]) -> "PagedBatch":
        """Select the logits of the last new token of each sequence, or of all if prompt logprobs are requested."""
        counts = np.array([context.tokens.active_length for context in contexts], dtype=np.int64)
        lengths = np.array([context.tokens.processed_length for context in contexts], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ids = np.concatenate([context.tokens.active for context in contexts]).astype(np.int64, copy=False)
        positions = np.arange(offsets[-1]) + np.repeat(lengths - offsets[:-1], counts)
        rows = np.where([returns_prompt_logprobs(context) for context in contexts], counts, 1)
        first = np.repeat(offsets[1:] - rows, rows)
        cuts = np.cumsum(rows)
        within = np.arange(cuts[-1]) - np.repeat(cuts - rows, rows)
        return cls(ids, positions, offsets, lengths, first + within, cuts[:-1])

    def split(self, logits: np.ndarray) -> list[np.ndarray]:
        """Return the selected logits of each sequence, `[rows, vocab]`."""
        return np.split(logits, self.cuts)


def returns_prompt_logprobs(context: TextContext) -> bool:
    """Return True if prompt logprobs are requested and the prompt is being computed."""
    return bool(context.log_probabilities) and context.log_probabilities_echo and context.tokens.generated_length == 0


#: The key of our own fields, `seed` and `logit_bias`, in a request's `dkv_cache_hint`, which MAX passes on unread.
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
    """The state of one sequence; `logprobs` are those of the last step."""

    sample: Sampler
    prompt_length: int
    echoed: list[TokenLogprob] = field(default_factory=list)
    logprobs: LogProbabilities | None = None
    started: bool = False

    @classmethod
    def of(cls, context: TextContext, size: int) -> "SequenceState":
        """Create the state of a new sequence; `size` is the number of ids in the tokenizer."""
        sampling, seed = sampling_params(context)
        sample = make_sampler(sampling, seed, size, sorted(context.eos_tracker.eos_token_ids))
        return cls(sample, context.tokens.prompt_length)

    def step(self, context: TextContext, logits: np.ndarray) -> int:
        """Sample the next token from logits `[rows, vocab]`; return 0 after a chunk that does not end the prompt."""
        num_logprobs, tokens = context.log_probabilities, context.tokens
        self.logprobs = None
        if returns_prompt_logprobs(context) and not self.started:
            self._echo(context, logits)
        if tokens.actively_chunked:
            return 0
        # After preemption, MAX resubmits the sequence with its output appended to the prompt.
        ids = tokens.all.tolist()
        try:
            token = self.sample(logits[-1], History(ids[: self.prompt_length], ids[self.prompt_length :]))
        except RequestError as error:  # the logits are NaN, for example because weights are not finite
            logger.warning("Sequence %s ends early: %s", context.request_id, error)
            token = min(context.eos_tracker.eos_token_ids, default=0)
        self.started = True
        if num_logprobs:
            self.logprobs = _to_max([*self.echoed, token_logprob(logits[-1], token, num_logprobs)])
            self.echoed = []
        return token

    def _echo(self, context: TextContext, logits: np.ndarray) -> None:
        """Append the logprobs of prompt tokens, given logits `[rows, vocab]`; the first token has none."""
        start = context.tokens.processed_length + 1
        following = context.tokens.all[start : min(start + len(logits), self.prompt_length)].tolist()
        self.echoed += [
            token_logprob(row, token, context.log_probabilities) for row, token in zip(logits, following, strict=False)
        ]


def _to_max(found: list[TokenLogprob]) -> LogProbabilities:
    return LogProbabilities(
        token_log_probabilities=[one.logprob for one in found],
        top_log_probabilities=[{**one.top, one.token: one.logprob} for one in found],
        sampled_token_ids=[one.token for one in found],
    )
