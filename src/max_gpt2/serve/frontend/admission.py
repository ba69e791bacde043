"""Checks API keys, and limits the requests in flight and the sequences that run at a time."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request

from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.settings import Limits

OPEN_PATHS = ("/health",)


class ApiKey:
    """Checks that requests have the API key; without a key, all requests pass."""

    def __init__(self, key: str | None) -> None:
        """Store a digest of the key: comparing digests takes the same time for keys of any length."""
        self._digest = None if key is None else _digest(key.encode())

    def check(self, request: Request) -> None:
        """Raise a 401 for a request without the key, unless its path is open."""
        if self._digest is None or request.url.path in OPEN_PATHS:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        valid = hmac.compare_digest(_digest(given.strip().encode("latin-1", "replace")), self._digest)
        if scheme.lower() != "bearer" or not valid:
            raise RefusedError(
                401,
                "The API key is missing or wrong. Send it in the header Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class AdmissionLimiter:
    """Rejects requests when the queue is full, and makes sequences wait for a free slot at the worker."""

    def __init__(self, limits: Limits) -> None:
        """Admit two batches of sequences, so that the worker never waits for the next one."""
        self._max_requests = limits.max_batch_size + limits.queue_size
        self.batch_size = limits.max_batch_size
        self._slots = asyncio.Semaphore(2 * limits.max_batch_size)
        self.requests = 0
        self.running = 0  # sequences sent to the worker
        self.waiting = 0  # sequences waiting for a slot

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request while it is in flight; raises a 429 if the queue is full."""
        if self.requests >= self._max_requests:
            message = f"The queue is full: the server has {self.requests} requests in flight. Retry later."
            raise RefusedError(429, message, code="queue_full")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot at the worker and hold it."""
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()
