"""uvicorn's HTTP protocol with timeouts, which close stalled connections."""

import asyncio
from typing import Any, ClassVar

import h11
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.settings import Limits


class TimeoutProtocol(H11Protocol):
    """Closes a connection with an incomplete request after `read_s`, and one that is not read for `write_s`.

    A new connection must send the headers of a request within `read_s`. Later requests have the same time from their
    first byte on. The endpoints limit the time of a body that they read; the protocol limits that of the others.
    """

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
        self._start_read_timer()

    def data_received(self, data: bytes) -> None:
        """Start the timeout with the first bytes of a request, and cancel it when the request is complete."""
        super().data_received(data)
        self._update_read_timer()

    def on_response_complete(self) -> None:
        """Start the timeout for a request of which the first bytes have arrived early, and for an unread body."""
        super().on_response_complete()
        self._update_read_timer()

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

    def _start_read_timer(self) -> None:
        self._read_timer = self.loop.call_later(self.limits.read_s, self.transport.close)

    def _update_read_timer(self) -> None:
        """Run the timeout while a request is incomplete; more bytes do not start it again."""
        responding = self.cycle is not None and not self.cycle.response_complete
        state = self.conn.their_state
        incomplete = not responding and (state is h11.SEND_BODY or (state is h11.IDLE and self.conn.trailing_data[0]))
        if not incomplete and self._read_timer:
            self._read_timer.cancel()
            self._read_timer = None
        elif incomplete and not self._read_timer:
            self._start_read_timer()


def check_framing(request: Request) -> None:
    """Raise a 400 for a body of two lengths: a proxy may see another end of it, and the rest as a request."""
    if "transfer-encoding" in request.headers:
        if "content-length" in request.headers:
            problem = "has both Transfer-Encoding and Content-Length"
        elif request.scope["http_version"] == "1.0":
            problem = "has Transfer-Encoding, which HTTP/1.0 does not define"
        else:
            return
        message = f"The request {problem}. Send one Content-Length, or HTTP/1.1 with Transfer-Encoding: chunked."
        raise RefusedError(400, message, headers={"Connection": "close"})


def timeout_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return a protocol with these limits."""
    return type("BoundProtocol", (TimeoutProtocol,), {"limits": limits})
