"""Run learners' steps in a worker process, which imports MAX and PyTorch once and is killed if a step hangs."""

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from tutorial.exercise import Verdict, WrongAnswerError
from tutorial.exercises import exercise
from tutorial.step_files import step_module, step_name
from tutorial.step_loader import use_steps

#: The time limit of each phase of a check in seconds. Only "import" and "forward" run the learner's own code.
LIMITS = {
    "start": 300.0,
    "ready": 60.0,
    "import": 30.0,
    "forward": 30.0,
    "operations": 600.0,
    "run": 600.0,
    "compile": 600.0,
}
OnPhase = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """A step to check, and the earlier steps to take from the learner's files."""

    number: int
    own: frozenset[int]


#: A message of the worker: the phase that begins (a key of `LIMITS`), or the verdict.
Event = str | Verdict


class Worker:
    """A worker process that checks steps; it starts with the first check and is killed at the end of the `with`."""

    def __init__(self, limits: Mapping[str, float] = LIMITS) -> None:
        """Take the time limits in seconds."""
        self.limits = limits
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "Worker":
        """Return self; the process starts with the first check."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the process."""
        self._kill()

    def check(self, task: Task, on_phase: OnPhase) -> Verdict:
        """Run the task and return its verdict; call `on_phase` with each phase that begins."""
        pipe, fresh = self._connect()
        phase = "start" if fresh else "ready"
        if not fresh:
            pipe.send(task)
        on_phase(phase)
        while pipe.poll(self.limits[phase]):
            try:
                event = pipe.recv()
            except EOFError:
                return self._died(task)
            if isinstance(event, Verdict):
                return event
            phase = event
            on_phase(phase)
            if phase == "ready":
                pipe.send(task)
        self._kill()
        return Verdict(False, _timed_out(task, phase, self.limits[phase]))

    def _connect(self) -> tuple[Connection, bool]:
        """Return the pipe to a live process, and whether the process is new."""
        if self._pipe and self._process and self._process.is_alive():
            return self._pipe, False
        self._kill()
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours, True

    def _died(self, task: Task) -> Verdict:
        assert self._process
        self._process.join(10)
        code = self._process.exitcode
        self._kill()
        return Verdict(False, f"The Python process exited while running {step_name(task.number)} (exit code {code}).")

    def _kill(self) -> None:
        if self._pipe:
            self._pipe.close()
        if self._process:
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _timed_out(task: Task, phase: str, limit: float) -> str:
    if phase in ("import", "forward"):
        return f"{step_name(task.number)} was stopped after {limit:.0f} s. Does it contain an endless loop?"
    doing = "running the step" if phase in ("operations", "run", "compile") else "starting"
    return f"The check was stopped after {limit:.0f} s while MAX was {doing}. The machine may be busy; try again."


def serve(pipe: Connection) -> None:
    """Check tasks in the worker process until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and kills this process
    os.dup2(2, 1)  # the learner's own prints go to stderr, separate from the report of the check
    pipe.send("start")
    # Imported before any step, so that a step's time limit does not include them.
    importlib.import_module("tutorial.runner")
    importlib.import_module("torch")

    pipe.send("ready")
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        verdict = check_task(task, pipe.send)
        sys.stderr.flush()
        pipe.send(verdict)


def check_task(task: Task, on_phase: OnPhase) -> Verdict:
    """Import the step, run it and compare; any exception of the learner's code becomes a verdict."""
    from tutorial.diagnosis import explain_error, judge
    from tutorial.runner import MaxRunner  # imports MAX, which the parent process does not need

    checked = exercise(task.number)
    try:
        on_phase("import")
        use_steps(task.own | {task.number})
        step = importlib.import_module(step_module(task.number))
        return judge(checked, checked.observe(step, MaxRunner(on_phase)))
    except WrongAnswerError as error:
        return Verdict(False, str(error))
    except BaseException as error:  # a learner's code may raise anything, including SystemExit
        return Verdict(False, explain_error(error, task.number))
