"""Runs the HTTP server and the supervisor of the worker until a signal, and stops both."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn

from max_gpt2.errors import ServeError
from max_gpt2.serve.frontend.app import Frontend
from max_gpt2.serve.frontend.health import Health
from max_gpt2.serve.frontend.protocol import timeout_protocol
from max_gpt2.serve.runtime.supervisor import Supervisor
from max_gpt2.serve.settings import Limits

logger = logging.getLogger("max_gpt2.serve")
_LAST_ANSWERS_S = 3.0
_LAST_WORDS_S = 1.0


def listen(host: str, port: int) -> socket.socket:
    """Take a port; raises ServeError in a sentence when that is not possible."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, number)
    except OSError as error:
        raise ServeError(f"--host {host} is no address of this machine ({error}). Use another.") from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(2048)
    except OSError as error:
        taken.close()
        if error.errno == 98:
            raise ServeError(f"The port {port} of {host} is taken. End what listens there, or use --port.") from error
        raise ServeError(f"{host} port {port} cannot be used: {error.strerror}. Use other ones.") from error
    return taken


class _Server(uvicorn.Server):
    """Leaves the signals to `run`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


class ServerRunner:
    """A server from its start to its end. The first signal lets it finish what it has begun, the second does not."""

    def __init__(self, frontend: Frontend, health: Health, supervisor: Supervisor, limits: Limits) -> None:
        """Take the parts."""
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
            timeout_graceful_shutdown=int(limits.drain_s + _LAST_ANSWERS_S) + 1,
        )
        self._server = _Server(config)
        self._signals = 0
        self.forced = False

    async def run(self, listening: socket.socket, ready: Callable[[], None]) -> None:
        """Serve until a signal, or until the supervisor gives up, which raises its ServeError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.signalled)
        serving = asyncio.create_task(self._server.serve([listening]))
        supervising = asyncio.create_task(self._supervisor.run())
        telling = asyncio.create_task(self._tell(ready))
        try:
            await asyncio.wait([serving, supervising], return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            self._server.should_exit = True
            self._supervisor.stop()
            await asyncio.wait([serving, supervising])
        for task in (supervising, serving):
            task.result()

    def signalled(self) -> None:
        """Take a signal: the first stops gently, another at once."""
        self._signals += 1
        if self._signals > 1:
            self.forced = True
            self._supervisor.kill()  # which gives what is being answered its 503
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, setattr, self._server, "force_exit", True)
            return
        waiting = self._frontend.admission.requests
        logger.warning("Stopping; %d requests are being finished. Once more to stop at once.", waiting)
        self._server.should_exit = True
        self._frontend.draining = True
        asyncio.get_running_loop().call_later(self._limits.drain_s, self._too_long)

    def _too_long(self) -> None:
        """End the worker: what is still being answered gets its 503."""
        logger.warning("%g s are over; what is not finished is cut off.", self._limits.drain_s)
        self._supervisor.stop()

    async def _tell(self, ready: Callable[[], None]) -> None:
        await self._supervisor.ready.wait()
        ready()
