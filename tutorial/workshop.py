"""Runs steps in a process of their own, and ends one that does not come to an end."""

import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from tutorial.places import step_name
from tutorial.verdict import Verdict
from tutorial.worker import Task, serve

#: How many seconds each part of a check may take. Only "import" and "forward" are the learner's own code.
LIMITS = {
    "start": 300.0,
    "ready": 60.0,
    "import": 30.0,
    "forward": 30.0,
    "operations": 600.0,
    "run": 600.0,
    "compile": 600.0,
}
Told = Callable[[str], None]


class Workshop:
    """A context in which steps are checked; the process is kept from one check to the next."""

    def __init__(self, limits: Mapping[str, float] = LIMITS) -> None:
        """Take the time limits, in seconds."""
        self.limits = limits
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "Workshop":
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._end()

    def check(self, task: Task, told: Told) -> Verdict:
        """Run the task and return its verdict; `told` hears of every part of it that begins."""
        pipe, fresh = self._connected()
        part = "start" if fresh else "ready"
        if not fresh:
            pipe.send(task)
        told(part)
        while pipe.poll(self.limits[part]):
            try:
                event = pipe.recv()
            except EOFError:
                return self._lost(task)
            if isinstance(event, Verdict):
                return event
            part = event
            told(part)
            if part == "ready":
                pipe.send(task)
        self._end()
        return Verdict(False, _too_long(task, part, self.limits[part]))

    def _connected(self) -> tuple[Connection, bool]:
        if self._pipe and self._process and self._process.is_alive():
            return self._pipe, False
        self._end()
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours, True

    def _lost(self, task: Task) -> Verdict:
        assert self._process
        self._process.join(10)
        code = self._process.exitcode
        self._end()
        return Verdict(False, f"Python itself ended while it ran {step_name(task.number)} (exit code {code}).")

    def _end(self) -> None:
        if self._pipe:
            self._pipe.close()
        if self._process:
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _too_long(task: Task, part: str, limit: float) -> str:
    if part in ("import", "forward"):
        return f"{step_name(task.number)} was stopped after {limit:.0f} s. Is there a loop in it that never ends?"
    doing = "ran it" if part in ("operations", "run", "compile") else "was loaded"
    return f"The check was stopped after {limit:.0f} s, while MAX {doing}. Is the machine busy? Try again."
