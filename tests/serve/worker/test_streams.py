import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sse_starlette.sse import EventSourceResponse

from max_gpt2.serve.worker.main import close_streams


@pytest.mark.parametrize("blocked", [1, 2, 3])
def test_stream_of_a_disconnected_client_is_closed_at_once(monkeypatch: pytest.MonkeyPatch, blocked: int) -> None:
    """The client disconnects while the server waits for it to read the start, the first or the second event."""
    monkeypatch.setattr(EventSourceResponse, "__call__", EventSourceResponse.__call__)
    close_streams()
    closed = []

    async def tokens() -> AsyncIterator[str]:
        try:
            while True:
                yield "token"
        finally:
            closed.append(True)

    async def serve() -> None:
        stream, sent = tokens(), 0
        first = await anext(stream)

        async def chained(first: str, stream: AsyncIterator[str]) -> AsyncIterator[str]:
            """Send the first token, for which MAX waits before it responds, and then the others."""
            yield first
            async for token in stream:
                yield token

        async def send(message: Any) -> None:
            nonlocal sent
            sent += 1
            if sent == blocked:
                await asyncio.sleep(3600)

        async def receive() -> Any:
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        response = EventSourceResponse(chained(first, stream), ping=100_000)
        del first, stream
        await response({"type": "http"}, receive, send)
        await asyncio.sleep(0.05)
        assert closed == [True]

    gc.disable()
    try:
        monkeypatch.setattr("sse_starlette.sse.AppStatus.should_exit_event", None)
        asyncio.run(serve())
    finally:
        gc.enable()
