"""The load generators against a fake server that answers immediately."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.serve.client import complete
from bench.serve.load import Shape, closed, opened


@asynccontextmanager
async def answering(seen: list[dict[str, Any]], status: str = "200 OK") -> AsyncIterator[int]:
    """Answer every request with four tokens; a stream has one event per token and one for the usage."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(next(line for line in head.splitlines() if line.startswith("Content-Length")).split()[1])
        body = json.loads(await reader.readexactly(length))
        seen.append(body)
        usage = {"usage": {"completion_tokens": 4}}
        if body.get("stream"):
            events = [{"choices": [{"text": word}]} for word in "abcd"] + [{"choices": [], **usage}]
            text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        else:
            text = json.dumps({"choices": [{"text": "abcd"}], **usage})
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def test_closed_load_sends_distinct_prompts_with_a_shared_prefix() -> None:
    seen: list[dict[str, Any]] = []

    async def run() -> Any:
        async with answering(seen) as port:
            return await closed(port, "some", Shape(16, 4, shared=10), clients=3, requests=7)

    load = asyncio.run(run())
    assert (len(load.answers), sum(answer.tokens for answer in load.answers)) == (7, 28)
    assert load.throughput == pytest.approx(28 / load.seconds)
    prompts = [body["prompt"] for body in seen]
    assert {len(prompt) for prompt in prompts} == {16}
    assert len({tuple(prompt[:10]) for prompt in prompts}) == 1
    assert len({tuple(prompt[10:]) for prompt in prompts}) == 7
    assert all((body["max_tokens"], body["temperature"], body["ignore_eos"]) == (4, 0, True) for body in seen)


def test_open_load_streams_at_random_times() -> None:
    seen: list[dict[str, Any]] = []

    async def run() -> Any:
        async with answering(seen) as port:
            return await opened(port, "some", Shape(5, 4), rate=60, seconds=0.5)

    load = asyncio.run(run())
    assert 10 < len(load.answers) < 60
    assert all(body["stream"] for body in seen)
    assert all(len(answer.times) == 4 and answer.tokens == 4 and answer.first > 0 for answer in load.answers)
    assert all(len(answer.between) == 3 for answer in load.answers)
    assert load.quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert load.quantile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_error_response_raises() -> None:
    async def run() -> None:
        async with answering([], "429 Too Many Requests") as port:
            await complete(port, {"prompt": [1]}, stream=False)

    with pytest.raises(RuntimeError, match="429"):
        asyncio.run(run())
