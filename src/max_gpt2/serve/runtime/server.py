"""Runs the HTTP server and the worker's supervisor until a signal, then stops both."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn

from max_gpt2.serve.frontend.app import Frontend
from max_gpt2.serve.frontend.health import Health
from max_gpt2.serve.frontend.protocol import timeout_protocol
from max_gpt2.serve.runtime.supervisor import Supervisor
from max_gpt2.serve.settings import Limits

logger = logging.getLogger("max_gpt2.serve")
#: Seconds to send the last responses after the drain, and after a second signal.
_LAST_RESPONSES_S = 3.0
_FORCED_RESPONSES_S = 1.0


class _Server(uvicorn.Server):
    """Leaves the handling of signals to `ServerRunner`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install no signal handlers."""
        yield


class ServerRunner:
    """Runs a server until it is stopped: the first signal drains requests in flight, a second one drops them."""

    def __init__(self, frontend: Frontend, health: Health, supervisor: Supervisor, limits: Limits) -> None:
        """Configure the HTTP server."""
        self._health, self._supervisor, self._limits = health, supervisor, limits
        self._frontend = frontend
        config = uvicorn.Config(
            frontend.app,
            http=timeout_protocol(limits),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=int(limits.drain_s + _LAST_RESPONSES_S) + 1,
        )
        self._server = _Server(config)
        self._signals = 0
        self.forced = False

    async def run(self, listening: socket.socket, ready: Callable[[], None]) -> None:
        """Serve until a signal; raises ServeError if the supervisor gives up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.signalled)
        serving = asyncio.create_task(self._server.serve([listening]))
        supervising = asyncio.create_task(self._supervisor.run())
        notifying = asyncio.create_task(self._notify(ready))
        try:
            await asyncio.wait([serving, supervising], return_when=asyncio.FIRST_COMPLETED)
        finally:
            notifying.cancel()
            self._server.should_exit = True
            self._supervisor.stop()
            await asyncio.wait([serving, supervising])
        for task in (supervising, serving):
            task.result()

    def signalled(self) -> None:
        """Handle a signal: drain on the first one, stop immediately on another one."""
        self._signals += 1
        if self._signals > 1:
            self.forced = True
            self._supervisor.kill()  # requests in flight then get a 503
            asyncio.get_running_loop().call_later(_FORCED_RESPONSES_S, setattr, self._server, "force_exit", True)
            return
        in_flight = self._frontend.admission.requests
        logger.warning("Stopping. Requests in flight: %d. Send the signal again to drop them.", in_flight)
        self._server.should_exit = True
        self._frontend.draining = True
        asyncio.get_running_loop().call_later(self._limits.drain_s, self._end_drain)

    def _end_drain(self) -> None:
        """Stop the worker; requests still in flight get a 503."""
        logger.warning("The drain time of %g s is over; dropping the requests still in flight.", self._limits.drain_s)
        self._supervisor.stop()

    async def _notify(self, ready: Callable[[], None]) -> None:
        await self._supervisor.ready.wait()
        ready()
