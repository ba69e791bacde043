"""How many requests may be in the house, and how many texts at the worker at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from max_gpt2.serve.front.errors import RefusedError
from max_gpt2.serve.front.served import Limits


class Places:
    """Counts requests, which are refused when there are too many, and texts, which wait for their turn in order."""

    def __init__(self, limits: Limits) -> None:
        """Make places for the worker's batch, and as many again so that it never waits for the next one."""
        self._most = limits.max_batch_size + limits.queue_size
        self.batch = limits.max_batch_size
        self._turns = asyncio.Semaphore(2 * limits.max_batch_size)
        self.requests = 0
        self.texts = 0  # at the worker
        self.waiting = 0  # texts that wait for a place

    @contextmanager
    def request(self) -> Iterator[None]:
        """Be a request in the house; raises a 429 when it is full."""
        if self.requests >= self._most:
            message = f"There are {self.requests} requests already, as many as are possible. Send it again later."
            raise RefusedError(429, message, code="queue_full")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a place at the worker, and hold it."""
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        self.texts += 1
        try:
            yield
        finally:
            self.texts -= 1
            self._turns.release()
