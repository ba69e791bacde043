"""The JSON of completions and chat completions, complete or as a stream, as documented by OpenAI."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from max_gpt2.serve.frontend.choices import ChoiceDelta, TokenLogprob
from max_gpt2.serve.frontend.job import Job
from max_gpt2.serve.settings import ServedModel

Result = TypeVar("Result")


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work`, and cancel it when the client disconnects. The body must have been read. Raises ClientDisconnect."""
    done = await _until_disconnect(request.receive, work)
    if done is None:
        raise ClientDisconnect
    return done.result()


class EventStream(Response):
    """A response of server-sent events, cancelled when the client disconnects."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        """Create the response from its encoded events."""
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        del scope
        done = await _until_disconnect(receive, self._send(send))
        if done is not None:
            done.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result] | None":
    """Return the finished task of `work`, or None if the client disconnected first and it was cancelled."""
    task, disconnected = asyncio.create_task(work), asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait([task, disconnected], return_when=asyncio.FIRST_COMPLETED)
        return task if task.done() else None
    finally:
        task.cancel()
        disconnected.cancel()
        await asyncio.wait([task, disconnected])


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


Kind = Literal["completion", "chat"]


@dataclass
class Usage:
    """Token counts of a request: each prompt once, and all generated sequences, also those that `best_of` drops."""

    prompt_tokens: int
    completion_tokens: int = 0

    def add_completion(self, count: int) -> None:
        """Add the tokens of one sequence."""
        self.completion_tokens += count

    def to_json(self) -> dict[str, int]:
        """Return the `usage` object of the response."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass
class ResponseBuilder:
    """Builds the JSON of one response, or of the chunks of a stream, which share the same head."""

    kind: Kind
    served: ServedModel
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        """Create a random id."""
        self.id = ("cmpl-" if self.kind == "completion" else "chatcmpl-") + secrets.token_hex(12)

    def head(self, *, chunk: bool = False) -> dict[str, Any]:
        """Return the fields that the response and all chunks have in common."""
        names = {"completion": "text_completion", "chat": "chat.completion" + ".chunk" * chunk}
        return {"id": self.id, "object": names[self.kind], "created": self.created, "model": self.served.name}

    def choice(self, index: int, choice: ChoiceDelta, job: Job) -> dict[str, Any]:
        """Return a complete choice."""
        logprobs = self._logprobs(choice, job)
        if self.kind == "completion":
            return {"index": index, "text": choice.text, "logprobs": logprobs, "finish_reason": choice.finish}
        message = {"role": "assistant", "content": choice.text, "refusal": None}
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish}

    def chunk(self, index: int, choice: ChoiceDelta, job: Job) -> dict[str, Any]:
        """Return a choice of a chunk."""
        logprobs = self._logprobs(choice, job)
        if self.kind == "completion":
            return {"index": index, "text": choice.text, "logprobs": logprobs, "finish_reason": choice.finish}
        delta = {"content": choice.text} if choice.text or choice.tokens else {}
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": choice.finish}

    def first_chunk(self, index: int) -> dict[str, Any]:
        """Return the choice of the first chunk of a chat, which carries the role."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _logprobs(self, choice: ChoiceDelta, job: Job) -> dict[str, Any] | None:
        if job.logprobs is None:
            return None
        if self.kind == "chat":
            return {"content": [_chat_token(token, job.logprobs) for token in choice.tokens], "refusal": None}
        return {
            "tokens": [token.name for token in choice.tokens],
            "token_logprobs": [token.logprob for token in choice.tokens],
            "top_logprobs": [token.top for token in choice.tokens] if job.logprobs else None,
            "text_offset": [token.offset for token in choice.tokens],
        }


def _chat_token(token: TokenLogprob, top_logprobs: int) -> dict[str, Any]:
    top = list((token.top or {}).items())[:top_logprobs]
    return {
        "token": token.name,
        "logprob": token.logprob,
        "bytes": list(token.raw),
        "top_logprobs": [{"token": name, "logprob": value, "bytes": _raw(name)} for name, value in top],
    }


def _raw(name: str) -> list[int]:
    r"""Return the bytes of a token, given its name, which may have the form `bytes:\xe2\x80`."""
    if name.startswith("bytes:\\x"):
        return list(bytes.fromhex(name.removeprefix("bytes:").replace("\\x", "")))
    return list(name.encode())
