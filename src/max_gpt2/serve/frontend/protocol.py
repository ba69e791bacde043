"""uvicorn's HTTP protocol with timeouts, which close stalled connections."""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.settings import Limits


class TimeoutProtocol(H11Protocol):
    """Closes a connection without the headers of a request after `read_s`, and one that is not read for `write_s`."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Create the protocol with the arguments of `H11Protocol`."""
        super().__init__(*arguments, **options)
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout for the headers of the first request."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._read_timer = self.loop.call_later(self.limits.read_s, self._close_without_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeouts."""
        for timer in (self._read_timer, self._write_timer):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timeout for a client that does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the timeout for a client that does not read."""
        super().resume_writing()
        if self._write_timer:
            self._write_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with an error in OpenAI's format."""
        body = bytes(RefusedError(400, f"{msg} Send HTTP/1.1.").response().body)
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _close_without_headers(self) -> None:
        if self.cycle is None:
            self.transport.close()


def timeout_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return a protocol with these limits."""
    return type("BoundProtocol", (TimeoutProtocol,), {"limits": limits})
