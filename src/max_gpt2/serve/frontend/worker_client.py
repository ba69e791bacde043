"""The HTTP client of the worker: sends jobs to MAX's server and reads the tokens it returns."""

import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx

from max_gpt2.serve.frontend.errors import RefusedError, worker_lost
from max_gpt2.serve.frontend.job import Job

logger = logging.getLogger("max_gpt2.serve")
Finish = Literal["stop", "length"]
LOST = "The worker stopped while it was answering; it is being started again. Send the request again."


@dataclass(frozen=True)
class Token:
    """A token id with its log probability and the most likely alternatives by name; None if not requested."""

    id: int
    logprob: float | None = None
    top: dict[str, float] | None = None


@dataclass(frozen=True)
class WorkerChunk:
    """Tokens of a text, of its prompt first if that is scored, and why it ends if it does."""

    prompt: list[Token]
    tokens: list[Token]
    finish: Finish | None


class Worker(Protocol):
    """Where the worker is now; raises RefusedError when there is none that is ready."""

    def address(self) -> tuple[str, str]:
        """Return its URL and the name of its model."""
        ...

    def answered(self) -> None:
        """Take note that the worker did something."""
        ...


class WorkerClient:
    """A client of the worker: each job is one HTTP request, which ends when its answer is no longer read."""

    def __init__(self, worker: Worker) -> None:
        """Take what knows where the worker is."""
        self._worker = worker
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30)
        timeout = httpx.Timeout(None, connect=5.0)
        self.client = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False)

    async def chunks(self, job: Job, *, stream: bool) -> AsyncGenerator[WorkerChunk, None]:
        """Yield what the worker writes: piece by piece, or all at once. Raises RefusedError.

        A connection that breaks before anything came is tried once more: the worker may have closed it just then, and
        with the same seed it would write the same.
        """
        url, model = self._worker.address()
        begun = False
        for again in (True, False):
            try:
                async with aclosing(self._stream_chunks(url, job.payload(model, stream), job)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except httpx.HTTPError as error:
                logger.warning("The worker's answer broke off: %r", error)
                if begun or not again:
                    raise worker_lost(LOST) from error

    async def _stream_chunks(self, url: str, payload: dict[str, Any], job: Job) -> AsyncGenerator[WorkerChunk, None]:
        async with self.client.stream("POST", f"{url}/v1/completions", json=payload) as answer:
            if answer.status_code != 200:
                raise _refused(answer.status_code, await answer.aread())
            if payload["stream"]:
                async with aclosing(_events(answer)) as events:
                    async for event in events:
                        self._worker.answered()
                        if chunk := read_chunk(event, job):
                            yield chunk
            else:
                body = await answer.aread()
                self._worker.answered()
                chunk = read_chunk(_json(body), job)
                if chunk is None:
                    raise worker_lost(LOST)
                yield chunk


async def _events(answer: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the objects of a stream; raises RefusedError when it breaks off, or holds an error."""
    async for line in answer.aiter_lines():
        kind, _, data = line.partition(":")
        if kind != "data":
            continue
        if (data := data.strip()) == "[DONE]":
            return
        event = _json(data)
        if "error" in event:
            raise worker_lost(LOST)
        yield event
    raise worker_lost(LOST)


def read_chunk(answer: dict[str, Any], job: Job) -> WorkerChunk | None:
    """Return the tokens of one object of the worker's, None if it holds none; raises RefusedError for any other."""
    try:
        if not answer["choices"]:
            return None
        (choice,) = answer["choices"]
        ids: list[int] = choice.get("token_ids") or []
        logprobs = choice.get("logprobs") or {}
        values: list[float | None] = logprobs.get("token_logprobs") or []
        tops: list[dict[str, float] | None] = logprobs.get("top_logprobs") or []
        prompt: list[Token] = []
        if job.scored and len(values) > len(ids):
            count = len(values) - len(ids)
            prompt = _tokens(job.prompt.ids, [None] * (len(job.prompt.ids) - count) + values[:count], tops[:count])
            values, tops = values[count:], tops[count:]
        asked = job.logprobs is not None or job.ranked
        tokens = _tokens(ids, values, tops) if asked else [Token(id_) for id_ in ids]
        return WorkerChunk(prompt, tokens, choice.get("finish_reason"))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RefusedError(500, "The worker's answer is not understood. Report it, with the request.") from error


def _tokens(ids: Sequence[int], values: Sequence[float | None], tops: Sequence[dict[str, float] | None]) -> list[Token]:
    """Join ids with what is known of them; the first ids may have no place before them to be predicted from."""
    padded = [None] * (len(ids) - len(tops)) + list(tops)
    found = [Token(id_, value, top) for id_, value, top in zip(ids, values, padded, strict=True)]
    if found and found[0].top is None:
        found[0] = Token(found[0].id)
    return found


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise worker_lost(LOST) from None
    if not isinstance(value, dict):
        raise worker_lost(LOST)
    return value


def _refused(status: int, body: bytes) -> RefusedError:
    """Return what a client is told when the worker refuses what the front let pass."""
    try:
        message = str(json.loads(body)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        message = ""
    if status == 429:
        return RefusedError(429, "The worker is at its limit. Send the request again later.")
    if status == 400 and message:
        return RefusedError(400, f"The worker refused the request: {message.rstrip('.')}. Correct it.")
    # What MAX's server says when the process of its model is gone, a moment before it ends itself.
    logger.warning("The worker answered with status %d: %s", status, message or body[:500])
    return worker_lost(LOST)
