"""Starts the worker process under a reaper, reads its output, and stops it with all its children."""

import asyncio
import collections
import logging
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from max_gpt2.serve.runtime import reaper

logger = logging.getLogger("max_gpt2.serve.worker")
_LOG_LINES = 60
_POLL_S = 0.03
_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b.*")


@dataclass(frozen=True)
class Command:
    """The command line of a worker and its complete environment."""

    arguments: list[str]
    environment: dict[str, str]
    metrics_url: str | None = None


#: Returns the command of a worker, given the ports of 127.0.0.1 for its API and its metrics.
Launch = Callable[[int, int], Command]


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class WorkerProcess:
    """A running worker and the last lines of its output."""

    process: Process
    url: str
    metrics_url: str | None
    lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=_LOG_LINES))
    reading: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        """Start reading the output; with a full pipe, the process would block."""
        self.reading = asyncio.create_task(self._read_output())

    @classmethod
    async def start(cls, launch: Launch) -> "WorkerProcess":
        """Start a worker on a free port."""
        port, metrics_port = free_ports(2)
        command = launch(port, metrics_port)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(Path(reaper.__file__)), *command.arguments),
            env=command.environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        return cls(process, f"http://127.0.0.1:{port}", command.metrics_url)

    async def ended(self) -> str:
        """Wait until the worker exits and return the reason as a sentence."""
        code = await self._exit_code()
        reaper.kill_session(self.process.pid)  # if the reaper was killed, the worker's children may still be running
        await asyncio.wait([self.reading], timeout=1)
        if code < 0:
            return f"The worker was killed by {signal.Signals(-code).name}."
        output = [line for line in self.lines if line.strip()]
        errors = [line for line in output if _ERROR.match(line)]
        last = (errors or output or ["it printed nothing"])[-1]
        return f"The worker exited with code {code}: {last.strip()[:300]}"

    async def end(self, grace_s: float) -> None:
        """Stop the worker and its children: SIGTERM, then SIGKILL after `grace_s` seconds."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self._exit_code(), grace_s)
            except TimeoutError:
                self.kill()
                await self._exit_code()
        reaper.kill_session(self.process.pid)
        await asyncio.wait([self.reading], timeout=1)
        self.reading.cancel()
        if self.process.stdin:
            self.process.stdin.close()

    def kill(self) -> None:
        """Kill the worker and its children immediately."""
        reaper.kill_session(self.process.pid)
        if self.process.returncode is None:
            self.process.kill()

    async def _exit_code(self) -> int:
        """Wait for the reaper to exit; `Process.wait` also waits for its output, which an orphan would hold open."""
        while self.process.returncode is None:
            await asyncio.sleep(_POLL_S)
        return self.process.returncode

    async def _read_output(self) -> None:
        assert self.process.stdout is not None
        while True:
            try:
                line = await self.process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                line = error.partial
            except asyncio.LimitOverrunError as error:
                line = await self.process.stdout.readexactly(error.consumed)
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self.lines.append(text)
            logger.debug("%s", text)
