"""HTTP as uvicorn speaks it, with patience that ends: a connection that stands still is closed."""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.settings import Limits


class TimeoutProtocol(H11Protocol):
    """Waits `read_s` for the headers of a first request, and `write_s` for a client that reads nothing."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what uvicorn hands over."""
        super().__init__(*arguments, **options)
        self._waiting: asyncio.TimerHandle | None = None
        self._blocked: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for headers."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._waiting = self.loop.call_later(self.limits.read_s, self._no_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        for timer in (self._waiting, self._blocked):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client that does not read some time."""
        super().pause_writing()
        self._blocked = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Take note that it reads."""
        super().resume_writing()
        if self._blocked:
            self._blocked.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else is answered."""
        body = bytes(RefusedError(400, f"{msg} Send HTTP/1.1.").response().body)
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _no_headers(self) -> None:
        if self.cycle is None:
            self.transport.close()


def timeout_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return a protocol with these limits."""
    return type("BoundProtocol", (TimeoutProtocol,), {"limits": limits})
