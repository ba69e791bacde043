"""One request, several texts: each prompt, and each of its n samples, is a job of its own for the worker."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from max_gpt2.serve.front.job import Job
from max_gpt2.serve.front.limits import Places
from max_gpt2.serve.front.served import Served
from max_gpt2.serve.front.upstream import Upstream
from max_gpt2.serve.front.writing import Part, Writer


@dataclass(frozen=True)
class Choice:
    """One text in whole, how many tokens were written for it, and their log probability."""

    part: Part
    count: int
    total_logprob: float


class FanOut:
    """Runs jobs at the worker, as many at a time as there are places for."""

    def __init__(self, upstream: Upstream, places: Places, served: Served) -> None:
        """Take the worker's client, and what counts the places."""
        self._upstream = upstream
        self._places = places
        self._served = served

    async def choices(self, jobs: list[Job]) -> list[Choice]:
        """Return the whole texts of the jobs, in their order; the first failure ends them all."""
        found: list[Choice | None] = [None] * len(jobs)

        async def one(place: int) -> None:
            whole, writer = Part(), Writer(jobs[place], self._served)
            # Where a text ends for a stop string only the front knows, so it has to see the text as it grows.
            stream = bool(jobs[place].sampling.stop)
            async with aclosing(self._parts(jobs[place], writer, stream=stream)) as parts:
                async for part in parts:
                    whole.join(part)
            found[place] = Choice(whole, writer.count, writer.total_logprob)

        await self._each(len(jobs), one)
        return [choice for choice in found if choice is not None]

    async def merged(self, jobs: list[Job], written: Callable[[int], None]) -> AsyncGenerator[tuple[int, Part], None]:
        """Yield the parts of the texts of all jobs as they are written, each with its job's number.

        `written` is told how many tokens each text has, as soon as that is known.
        """
        queue: asyncio.Queue[tuple[int, Part] | None] = asyncio.Queue()

        async def one(place: int) -> None:
            writer = Writer(jobs[place], self._served)
            async with aclosing(self._parts(jobs[place], writer, stream=True)) as parts:
                async for part in parts:
                    queue.put_nowait((place, part))
            written(writer.count)

        task = asyncio.create_task(self._each(len(jobs), one))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (item := await queue.get()) is not None:
                yield item
            await task
        finally:
            if task.cancel():
                await asyncio.wait([task])

    async def _parts(self, job: Job, writer: Writer, *, stream: bool) -> AsyncGenerator[Part, None]:
        if not job.needs_worker:
            part = writer.begin([])
            part.join(writer.nothing())
            yield part
            return
        async with self._places.one(), aclosing(self._upstream.pieces(job, stream=stream)) as pieces:
            first = True
            async for piece in pieces:
                part = writer.begin(piece.prompt) if first else Part()
                first = False
                part.join(writer.add(piece) if job.max_tokens else writer.nothing())
                yield part
                if writer.done:
                    break

    async def _each(self, count: int, one: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Do `one` for each number, no more at a time than a batch has, so that others get their turn in between.

        The failure of one ends the others and is the failure of all.
        """
        turns = asyncio.Semaphore(self._places.batch)

        async def in_turn(place: int) -> None:
            async with turns:
                await one(place)

        try:
            async with asyncio.TaskGroup() as group:
                for place in range(count):
                    group.create_task(in_turn(place))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
