"""A minimal client, one connection per request: it shares the machine with the server."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """The times of a request and of its tokens, in seconds, and the number of tokens that the server reports.

    Without streaming there is a single time, that of the whole response.
    """

    sent: float
    times: list[float] = field(default_factory=list)
    tokens: int = 0

    @property
    def first(self) -> float:
        """Return the seconds to the first token."""
        return self.times[0] - self.sent

    @property
    def whole(self) -> float:
        """Return the seconds to the last token."""
        return self.times[-1] - self.sent

    @property
    def between(self) -> list[float]:
        """Return the seconds between successive tokens."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


async def complete(port: int, body: dict[str, Any], *, stream: bool) -> Answer:
    """Send a completion to a server on this machine; raises RuntimeError unless the status is 200."""
    content = json.dumps(
        body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    answer = Answer(time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        writer.write(head.encode() + content)
        status = (await reader.readline()).decode()
        if " 200 " not in status:
            raise RuntimeError(f"{status.strip()}: {(await reader.read()).decode(errors='replace')[-500:]}")
        while (await reader.readline()).strip():
            pass
        if stream:
            await _read_stream(reader, answer)
        else:
            text = (await reader.read()).decode()
            answer.times.append(time.perf_counter())
            answer.tokens = int(json.loads(text[text.index("{") : text.rindex("}") + 1])["usage"]["completion_tokens"])
    finally:
        writer.close()
    return answer


async def _read_stream(reader: asyncio.StreamReader, answer: Answer) -> None:
    """Read server-sent events; other lines are the sizes of HTTP chunks."""
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        now = time.perf_counter()
        event = json.loads(line[6:])
        if any(choice.get("text") or choice.get("token_ids") for choice in event.get("choices", [])):
            answer.times.append(now)
        if usage := event.get("usage"):
            answer.tokens = int(usage["completion_tokens"])
