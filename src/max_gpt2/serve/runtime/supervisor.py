"""Keeps a worker running: starts it, monitors it, restarts it, and gives up when it never becomes ready."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx

from max_gpt2.errors import ServeError
from max_gpt2.serve.frontend.health import Health
from max_gpt2.serve.runtime.process import Launch, WorkerProcess

logger = logging.getLogger("max_gpt2.serve")


@dataclass(frozen=True)
class Policy:
    """Timeouts of the supervisor in seconds, and the maximum number of failed starts in a row.

    After a worker was ready for more than `settled_s`, the pause before a restart is `first_pause_s` again.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    settled_s: float = 60.0
    max_failed_starts: int = 3
    start_s: float = 1800.0
    poll_s: float = 0.25
    end_s: float = 10.0
    silent_s: float = 30.0
    stall_s: float = 300.0


class Supervisor:
    """Runs one worker after another and records their state in `health`."""

    def __init__(
        self,
        launch: Launch,
        health: Health,
        policy: Policy,
        running_sequences: Callable[[], int],
        restarted: Callable[[], None] = lambda: None,
    ) -> None:
        """Create a supervisor.

        `launch` returns the command of a worker, `running_sequences` the number of sequences that it should be
        generating; `restarted` is called on every restart.
        """
        self._restarted = restarted
        self._launch, self._health, self._policy = launch, health, policy
        self._running_sequences = running_sequences
        self._worker: WorkerProcess | None = None
        self._client = httpx.AsyncClient(timeout=min(10.0, policy.silent_s), trust_env=False)
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep a worker running until `stop`; raises ServeError when it gives up."""
        failed_starts, pause = 0, self._policy.first_pause_s
        while not self._stopping.is_set():
            worker = self._worker = await WorkerProcess.start(self._launch)
            reason = await self._wait_until_ready(worker)
            if reason is None:
                failed_starts, since = 0, monotonic()
                reason = await self._monitor(worker)
                if monotonic() - since > self._policy.settled_s:
                    pause = self._policy.first_pause_s
            else:
                failed_starts += 1
            if self._stopping.is_set():
                break
            self._health.transition_to("restarting", reason)
            for line in worker.lines:
                logger.info("worker: %s", line)
            logger.error("%s", reason)
            await worker.end(0)
            if failed_starts >= self._policy.max_failed_starts:
                self._health.transition_to("failed", reason)
                raise ServeError(
                    f"The worker failed to start {failed_starts} times in a row. Last reason: {reason} Its output is "
                    "above. Run max-gpt2 doctor to check the installation."
                )
            self._health.restarts += 1
            self._restarted()
            self._health.transition_to("restarting", f"{reason} It is being restarted.")
            logger.warning("Restarting the worker in %g s", pause)
            await self._unless_stopping(asyncio.sleep(pause))
            pause = min(2 * pause, self._policy.longest_pause_s)
        await self._end()

    def stop(self) -> None:
        """Stop the worker; `run` then returns."""
        self._stopping.set()

    def kill(self) -> None:
        """Kill the worker immediately; `run` then returns."""
        self._stopping.set()
        if self._worker:
            self._worker.kill()

    async def _end(self) -> None:
        self._health.transition_to("stopping", "The server is shutting down.")
        if self._worker:
            await self._worker.end(self._policy.end_s)
        await self._client.aclose()

    async def _wait_until_ready(self, worker: WorkerProcess) -> str | None:
        """Wait until the worker is ready and return None; return the reason if it does not become ready."""
        ended = asyncio.create_task(worker.ended())
        until = monotonic() + self._policy.start_s
        try:
            while not ended.done() and not self._stopping.is_set():
                if monotonic() > until:
                    return f"The worker was not ready after {self._policy.start_s:g} s."
                model = await self._model(worker)
                if model is not None:
                    self._health.url, self._health.model = worker.url, model
                    self._health.metrics_url = worker.metrics_url
                    self._health.transition_to("ready")
                    self._health.answered()
                    self.ready.set()
                    return None
                await self._unless_stopping(asyncio.wait([ended], timeout=self._policy.poll_s))
            return ended.result() if ended.done() else "The server is shutting down."
        finally:
            ended.cancel()

    async def _model(self, worker: WorkerProcess) -> str | None:
        """Return the worker's name for its model, or None while the worker is not ready."""
        try:
            if (await self._client.get(f"{worker.url}/health")).status_code != 200:
                return None
            return str((await self._client.get(f"{worker.url}/v1/models")).json()["data"][0]["id"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return None

    async def _monitor(self, worker: WorkerProcess) -> str:
        """Monitor a ready worker; return the reason when it stops being ready."""
        ended = asyncio.create_task(worker.ended())
        responded, busy_since, work = monotonic(), monotonic(), ""
        try:
            while not ended.done() and not self._stopping.is_set():
                await self._unless_stopping(asyncio.wait([ended], timeout=max(1, self._policy.poll_s)))
                if ended.done() or self._stopping.is_set():
                    break
                if await self._answers(worker):
                    responded = monotonic()
                if monotonic() - responded > self._policy.silent_s:
                    return f"The worker did not respond for {self._policy.silent_s:g} s."
                now = await self._work_done(worker) if monotonic() - busy_since > self._policy.stall_s / 2 else work
                if not self._running_sequences() or self._health.last_answer > busy_since or now != work:
                    busy_since, work = monotonic(), now
                if monotonic() - busy_since > self._policy.stall_s:
                    return (
                        f"The worker generated nothing for {self._policy.stall_s:g} s although sequences were running."
                    )
            return ended.result() if ended.done() else "The server is shutting down."
        finally:
            ended.cancel()

    async def _answers(self, worker: WorkerProcess) -> bool:
        try:
            return (await self._client.get(f"{worker.url}/health")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _work_done(self, worker: WorkerProcess) -> str:
        """Return the worker's batch metrics, which change as long as it computes."""
        if worker.metrics_url is None:
            return ""
        try:
            page = (await self._client.get(worker.metrics_url, follow_redirects=True)).text
        except httpx.HTTPError:
            return ""
        return "".join(line for line in page.splitlines() if "batch" in line and not line.startswith("#"))

    async def _unless_stopping(self, waiting: Coroutine[Any, Any, object]) -> None:
        """Wait for the coroutine, or until the server is being stopped."""
        task = asyncio.create_task(waiting)
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        for one in (task, stop):
            one.cancel()
