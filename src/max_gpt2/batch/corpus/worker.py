"""A worker of a corpus run: a child process, or a part of a Ray actor."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from max_gpt2._progress import silently
from max_gpt2.batch.corpus.drive import Progress, row_errors
from max_gpt2.batch.corpus.folder import open_folder
from max_gpt2.batch.corpus.job import Job, open_run
from max_gpt2.batch.corpus.plan import read_plan
from max_gpt2.batch.corpus.processes import Parent, run_child
from max_gpt2.batch.corpus.readers import Row
from max_gpt2.batch.corpus.run import Outcome, PartRunner, token_count
from max_gpt2.errors import RequestError
from max_gpt2.system.cores import start_thread_pool
from max_gpt2.system.machine import import_pyarrow

#: Seconds between two reports of progress.
_INTERVAL = 0.2


@dataclass(frozen=True)
class Assignment:
    """The arguments of a worker: the job, the digest of its plan, and the number of threads."""

    job: Job
    plan: str
    threads: int


class PartWorker:
    """Processes parts of a run, with the model loaded once."""

    def __init__(self, assignment: Assignment, on_progress: Callable[[Progress], None]) -> None:
        """Open the run and load the model.

        Raises RequestError if the input or the output is not that of the run, as on a machine without the same folders.
        """
        import_pyarrow()
        start_thread_pool(assignment.threads)
        output = assignment.job.output
        plan = read_plan(open_folder(output))
        if plan is None or plan.digest != assignment.plan:
            raise RequestError(
                f"{output} does not have the plan of this run as {_machine()} sees it. Choose an --output that all "
                "machines reach under the same path: a network file system, or a URI such as s3://BUCKET/FOLDER."
            )
        self.run = open_run(assignment.job)
        self._on_progress = on_progress
        self._clear(0.0)
        self._runner = PartRunner(self.run, self.run.task.load(self.run.opened, silently), self._on_row)

    def process(self, parts: Iterable[int]) -> Outcome:
        """Write those of the parts that are missing; see `PartRunner.run`."""
        outcome = self._runner.run(parts)
        self._report()
        return outcome

    def _on_row(self, row: Row, result: Mapping[str, Any]) -> None:
        self._rows += 1
        self._tokens += token_count(result)
        self._errors += row_errors(row, result)
        if time.monotonic() >= self._due:
            self._report()

    def _report(self) -> None:
        if self._rows:
            self._on_progress(Progress(self._rows, self._tokens, tuple(self._errors)))
        self._clear(time.monotonic() + _INTERVAL)

    def _clear(self, due: float) -> None:
        self._rows, self._tokens, self._due = 0, 0, due
        self._errors = list[str]()


def _machine() -> str:
    import platform

    return platform.node() or "this machine"


def _serve(parent: Parent) -> None:
    """Process the parts that the parent sends: first the assignment, then lists of parts."""
    calls = parent.calls()
    worker = PartWorker(next(calls), parent.send)
    parent.send(None)
    for parts in calls:
        parent.send(worker.process(parts))


def main() -> None:
    """Run a worker process; see `execute_with_workers`."""
    run_child(_serve)
