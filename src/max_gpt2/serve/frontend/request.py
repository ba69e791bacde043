"""Turns a request to /v1/completions or /v1/chat/completions into jobs."""

from dataclasses import dataclass, replace
from typing import Any

from max_gpt2.serve.frontend.chat import ChatTemplate
from max_gpt2.serve.frontend.choices import Choice
from max_gpt2.serve.frontend.errors import RefusedError, incompatible_field
from max_gpt2.serve.frontend.job import (
    DEFAULT_TOKENS,
    Job,
    PromptIds,
    fresh_seed,
    read_max_tokens,
    read_prompts,
    read_sampling,
)
from max_gpt2.serve.frontend.parsing import check_fields, check_model, check_stream
from max_gpt2.serve.frontend.responses import Kind, ResponseBuilder
from max_gpt2.serve.frontend.schema import ChatFields, CommonFields, CompletionFields
from max_gpt2.serve.settings import Limits, ServedModel

#: Biases of all sequences of a request together: the worker receives them with each sequence.
_MAX_BIASES = 1 << 20


@dataclass(frozen=True)
class CompletionRequest:
    """A valid request: for each prompt it has `samples` jobs, and the best `n` results become the choices."""

    jobs: list[Job]
    n: int
    samples: int
    stream: bool
    include_usage: bool
    response: ResponseBuilder
    user: str | None

    @property
    def prompt_tokens(self) -> int:
        """The number of prompt tokens; each prompt counts once."""
        return sum(len(job.prompt.ids) for job in self.jobs[:: self.samples])

    def best(self, choices: list[Choice]) -> list[tuple[Job, Choice]]:
        """Return the n choices of each prompt; with `best_of`, those with the highest mean logprob per token."""
        pairs = list(zip(self.jobs, choices, strict=True))
        if self.samples == self.n:
            return pairs
        groups = [pairs[first : first + self.samples] for first in range(0, len(pairs), self.samples)]
        ranked = [sorted(group, key=lambda pair: -_per_token(pair[1]))[: self.n] for group in groups]
        return [pair for group in ranked for pair in group]


def _per_token(choice: Choice) -> float:
    return choice.total_logprob / max(choice.count, 1)


def read_completion(given: dict[str, Any], served: ServedModel, limits: Limits) -> CompletionRequest:
    """Check a request to /v1/completions; raises RefusedError."""
    fields = check_fields(CompletionFields, given)
    check_model(fields.model, served)
    check_stream(fields)
    n = fields.n or 1
    samples = n if fields.best_of is None else fields.best_of
    if samples < n:
        raise incompatible_field("best_of", f"{samples} is less than n ({n}). Use at least {n}, or leave it out.")
    if fields.stream and samples > n:
        problem = "the best choice is known only at the end, so it cannot be streamed. Leave out stream or best_of."
        raise incompatible_field("best_of", problem)
    sampling = read_sampling(fields, served)
    prompts = read_prompts(fields.prompt, served, limits)
    scores = bool(fields.echo) and fields.logprobs is not None
    jobs = [
        Job(
            prompt,
            read_max_tokens(
                fields.max_tokens, prompt, served, param="max_tokens", default=DEFAULT_TOKENS, scores=scores
            ),
            0,
            sampling,
            fields.logprobs,
            bool(fields.echo),
        )
        for prompt in prompts
    ]
    return _make_request("completion", fields, jobs, (n, samples), served, limits)


def read_chat(
    given: dict[str, Any], served: ServedModel, limits: Limits, template: ChatTemplate | None
) -> CompletionRequest:
    """Check a request to /v1/chat/completions; raises RefusedError."""
    fields = check_fields(ChatFields, given)
    check_model(fields.model, served)
    check_stream(fields)
    if template is None:
        raise RefusedError(
            400,
            f"{served.name} has no chat template. Use /v1/completions, or start the server with --chat-template FILE "
            "(a Jinja template as in transformers).",
            "messages",
            "no_chat_template",
        )
    param, max_tokens = _chat_limit(fields)
    if fields.top_logprobs is not None and not fields.logprobs:
        raise incompatible_field("top_logprobs", "it requires logprobs: true. Add that, or leave out top_logprobs.")
    sampling = read_sampling(fields, served)
    prompt = PromptIds("messages", template.ids(fields.messages, served.config.n_positions))
    tokens = read_max_tokens(max_tokens, prompt, served, param=param, default=None)
    logprobs = (fields.top_logprobs or 0) if fields.logprobs else None
    n = fields.n or 1
    return _make_request("chat", fields, [Job(prompt, tokens, 0, sampling, logprobs)], (n, n), served, limits)


def _chat_limit(fields: ChatFields) -> tuple[str, int | None]:
    """Return the name and the value of the field that limits the new tokens."""
    old, new = fields.max_tokens, fields.max_completion_tokens
    if old is not None and new is not None and old != new:
        problem = f"{new} differs from max_tokens ({old}). Leave out one of the two."
        raise incompatible_field("max_completion_tokens", problem)
    return ("max_completion_tokens", new) if new is not None else ("max_tokens", old)


def _make_request(
    kind: Kind, fields: CommonFields, firsts: list[Job], counts: tuple[int, int], served: ServedModel, limits: Limits
) -> CompletionRequest:
    """Create the jobs of all samples; sample i of a prompt has the seed `seed + i`. `counts` is `(n, samples)`."""
    n, samples = counts
    if len(firsts) * samples > limits.max_prompts:
        param = "best_of" if samples > n else "n"
        problem = (
            f"{len(firsts)} prompts times {samples} samples exceed the maximum of {limits.max_prompts} sequences. "
            f"Send fewer prompts, or reduce {param}."
        )
        raise incompatible_field(param, problem)
    biases = len(firsts) * samples * len(firsts[0].sampling.logit_bias)
    if biases > _MAX_BIASES:
        problem = (
            f"{len(firsts) * samples} sequences with {len(firsts[0].sampling.logit_bias)} biases each exceed the "
            f"maximum of {_MAX_BIASES} biases. Send fewer prompts, samples or biases."
        )
        raise incompatible_field("logit_bias", problem)
    jobs = []
    for first in firsts:
        job = replace(first, ranked=samples > n)
        seed = fresh_seed() if fields.seed is None else fields.seed
        jobs += [replace(job, seed=seed + index) for index in range(samples)]
    options = fields.stream_options
    usage = options is not None and options.include_usage
    return CompletionRequest(jobs, n, samples, bool(fields.stream), usage, ResponseBuilder(kind, served), fields.user)
