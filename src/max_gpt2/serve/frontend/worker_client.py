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
LOST = "The worker failed during the request and is being restarted. Send the request again."


@dataclass(frozen=True)
class Token:
    """A token id with its log probability and the most likely alternatives by name; None if not requested."""

    id: int
    logprob: float | None = None
    top: dict[str, float] | None = None


@dataclass(frozen=True)
class WorkerChunk:
    """Generated tokens, with the prompt's in the first chunk of a scored job, and the finish reason in the last."""

    prompt: list[Token]
    tokens: list[Token]
    finish: Finish | None


class Worker(Protocol):
    """The part of `Health` that the client uses."""

    def address(self) -> tuple[str, str]:
        """Return the worker's URL and the name of its model; raises RefusedError if the worker is not ready."""
        ...

    def answered(self) -> None:
        """Record that the worker has answered."""
        ...


class WorkerClient:
    """A client of the worker: each job is one HTTP request, cancelled when its chunks are no longer read."""

    def __init__(self, worker: Worker) -> None:
        """Create a client that sends to the current address of `worker`."""
        self._worker = worker
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30)
        timeout = httpx.Timeout(None, connect=5.0)
        self.client = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False)

    async def chunks(self, job: Job, *, stream: bool) -> AsyncGenerator[WorkerChunk, None]:
        """Yield the chunks of a job, or a single one if `stream` is False. Raises RefusedError.

        A request that loses its connection before the first chunk is retried once: the worker may just have closed an
        idle connection, and the same seed gives the same output.
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
                logger.warning("The connection to the worker failed: %r", error)
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
    """Yield the events of a stream; raises RefusedError if it ends early or contains an error."""
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
    """Return the tokens of a response or an event, or None if it has no choices; raises RefusedError if malformed."""
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
        has_logprobs = job.logprobs is not None or job.ranked
        tokens = _tokens(ids, values, tops) if has_logprobs else [Token(id_) for id_ in ids]
        return WorkerChunk(prompt, tokens, choice.get("finish_reason"))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        message = "The worker sent a malformed response. Please report it together with the request."
        raise RefusedError(500, message) from error


def _tokens(ids: Sequence[int], values: Sequence[float | None], tops: Sequence[dict[str, float] | None]) -> list[Token]:
    """Combine ids with their logprobs; the first id of a prompt has none, since nothing precedes it."""
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
    """Return the error for a request that the frontend accepted and the worker rejected."""
    try:
        message = str(json.loads(body)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        message = ""
    if status == 429:
        return RefusedError(429, "The worker's queue is full. Retry later.")
    if status == 400 and message:
        return RefusedError(400, f"The worker rejected the request: {message.rstrip('.')}. Correct it.")
    # MAX's server sends other errors when its model process has died, just before it exits itself.
    logger.warning("The worker answered with status %d: %s", status, message or body[:500])
    return worker_lost(LOST)
