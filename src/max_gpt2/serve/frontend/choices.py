"""Runs the jobs of a request, one per prompt and sample, and turns the worker's tokens into choices."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from max_gpt2.serve.frontend.admission import AdmissionLimiter
from max_gpt2.serve.frontend.job import Job
from max_gpt2.serve.frontend.worker_client import Finish, Token, WorkerChunk, WorkerClient
from max_gpt2.serve.settings import ServedModel
from max_gpt2.tokenizer.detokenizer import Detokenizer


@dataclass(frozen=True)
class TokenLogprob:
    """An entry of `logprobs`: the token, its logprob, and its offset in the text."""

    name: str
    raw: bytes
    logprob: float | None
    top: dict[str, float] | None
    offset: int


@dataclass
class ChoiceDelta:
    """New text and tokens of a choice, with the finish reason in the last delta."""

    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None

    def join(self, other: "ChoiceDelta") -> None:
        """Append the delta that follows."""
        self.text += other.text
        self.tokens += other.tokens
        self.finish = other.finish or self.finish


class ChoiceBuilder:
    """Builds the deltas of one choice; `done` is True after the last one, even if the worker sends more tokens."""

    def __init__(self, job: Job, served: ServedModel) -> None:
        """Start with an empty text."""
        self.count = 0  # generated tokens
        self.total_logprob = 0.0
        self.done = False
        self._job = job
        self._served = served
        self._detokenizer = Detokenizer(served.token_table, job.sampling.stop, stop_ids=job.sampling.stop_ids)
        self._start = 0
        self._pending: list[Token] = []

    def begin(self, prompt: list[Token]) -> ChoiceDelta:
        """Return the prompt if `echo` is set: the text as received, or the decoded ids including special tokens."""
        job, table = self._job, self._served.token_table
        if not job.echo:
            return ChoiceDelta()
        text = table.text(job.prompt.ids, special=True) if job.prompt.text is None else job.prompt.text
        self._start = len(text)
        if not job.scored:
            return ChoiceDelta(text)
        detokenizer = Detokenizer(table, special=True)
        offsets = [*detokenizer.add(job.prompt.ids).offsets, *detokenizer.end().offsets]
        found = zip(prompt or [Token(id_) for id_ in job.prompt.ids], offsets, strict=True)
        return ChoiceDelta(text, [self._token_logprob(token, offset) for token, offset in found])

    def add(self, chunk: WorkerChunk) -> ChoiceDelta:
        """Append the tokens of a chunk and return the text that became final."""
        tokens = chunk.tokens[: self._job.max_tokens - self.count]
        text = self._detokenizer.add([token.id for token in tokens])
        del tokens[self._detokenizer.tokens - self.count :]  # tokens after the one that completes a stop string
        self.count += len(tokens)
        self.total_logprob += sum(token.logprob or 0.0 for token in tokens)
        self._pending += tokens
        delta = ChoiceDelta(text.text, self._token_logprobs(text.offsets))
        if self._detokenizer.stopped:
            delta.finish, self.done = "stop", True
        elif chunk.finish or self.count >= self._job.max_tokens:
            rest = self._detokenizer.end()
            delta.join(ChoiceDelta(rest.text, self._token_logprobs(rest.offsets)))
            stopped = self._detokenizer.stopped or chunk.finish == "stop"
            delta.finish, self.done = "stop" if stopped else "length", True
        return delta

    def finish(self) -> ChoiceDelta:
        """Return the only delta of a choice with `max_tokens` 0."""
        self.done = True
        return ChoiceDelta(finish="length")

    def _token_logprobs(self, offsets: list[int]) -> list[TokenLogprob]:
        if self._job.logprobs is None:
            return []
        tokens, self._pending = self._pending[: len(offsets)], self._pending[len(offsets) :]
        return [self._token_logprob(token, self._start + offset) for token, offset in zip(tokens, offsets, strict=True)]

    def _token_logprob(self, token: Token, offset: int) -> TokenLogprob:
        """Return the entry of a token; `top` always contains the token itself, with its own logprob."""
        name = self._served.token_table.name(token.id)
        top = token.top
        if top is not None and token.logprob is not None:
            most_likely = sorted(top.items(), key=lambda one: -one[1])[: self._job.logprobs]
            top = dict(most_likely) | {name: token.logprob}
        return TokenLogprob(name, self._served.token_table.raw(token.id, special=True), token.logprob, top, offset)


@dataclass(frozen=True)
class Choice:
    """A complete choice, its number of tokens, and the sum of their logprobs."""

    output: ChoiceDelta
    count: int
    total_logprob: float


class FanOut:
    """Runs jobs on the worker, as many at a time as the limiter admits."""

    def __init__(self, worker_client: WorkerClient, admission: AdmissionLimiter, served: ServedModel) -> None:
        """Run the jobs with `worker_client`, admitted by `admission`."""
        self._worker_client = worker_client
        self._admission = admission
        self._served = served

    async def choices(self, jobs: list[Job]) -> list[Choice]:
        """Return the complete choices in the order of the jobs; the first failure cancels all of them."""
        found: list[Choice | None] = [None] * len(jobs)

        async def collect(index: int) -> None:
            complete, builder = ChoiceDelta(), ChoiceBuilder(jobs[index], self._served)
            # Only the frontend detects stop strings and stop ids, so it needs every token as soon as it is generated.
            stream = bool(jobs[index].sampling.stop or jobs[index].sampling.stop_ids)
            async with aclosing(self._deltas(jobs[index], builder, stream=stream)) as deltas:
                async for delta in deltas:
                    complete.join(delta)
            found[index] = Choice(complete, builder.count, builder.total_logprob)

        await self._each(len(jobs), collect)
        return [choice for choice in found if choice is not None]

    async def merged(
        self, jobs: list[Job], on_done: Callable[[int], None]
    ) -> AsyncGenerator[tuple[int, ChoiceDelta], None]:
        """Yield the deltas of all jobs as they arrive, each with the index of its job.

        `on_done` is called with the number of tokens of each finished job.
        """
        queue: asyncio.Queue[tuple[int, ChoiceDelta] | None] = asyncio.Queue()

        async def enqueue(index: int) -> None:
            builder = ChoiceBuilder(jobs[index], self._served)
            async with aclosing(self._deltas(jobs[index], builder, stream=True)) as deltas:
                async for delta in deltas:
                    queue.put_nowait((index, delta))
            on_done(builder.count)

        task = asyncio.create_task(self._each(len(jobs), enqueue))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (item := await queue.get()) is not None:
                yield item
            await task
        finally:
            if task.cancel():
                await asyncio.wait([task])

    async def _deltas(self, job: Job, builder: ChoiceBuilder, *, stream: bool) -> AsyncGenerator[ChoiceDelta, None]:
        if not job.needs_worker:
            delta = builder.begin([])
            delta.join(builder.finish())
            yield delta
            return
        async with self._admission.slot(), aclosing(self._worker_client.chunks(job, stream=stream)) as chunks:
            first = True
            async for chunk in chunks:
                delta = builder.begin(chunk.prompt) if first else ChoiceDelta()
                first = False
                delta.join(builder.add(chunk) if job.max_tokens else builder.finish())
                yield delta
                if builder.done:
                    break

    async def _each(self, count: int, run: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Call `run` with each index, at most one batch at a time, so that other requests can be scheduled in between.

        The first failure cancels the others and is raised.
        """
        slots = asyncio.Semaphore(self._admission.batch_size)

        async def run_limited(index: int) -> None:
            async with slots:
                await run(index)

        try:
            async with asyncio.TaskGroup() as group:
                for index in range(count):
                    group.create_task(run_limited(index))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
