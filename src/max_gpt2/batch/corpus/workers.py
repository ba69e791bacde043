"""Process the parts of a corpus run in several processes of this machine."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import connection

from max_gpt2.batch.corpus.drive import Execute, OnProgress, Progress
from max_gpt2.batch.corpus.job import CorpusRun
from max_gpt2.batch.corpus.manifest import read_entry
from max_gpt2.batch.corpus.processes import Child, ProcessError
from max_gpt2.batch.corpus.run import Outcome, is_done
from max_gpt2.batch.corpus.worker import Assignment
from max_gpt2.errors import MaxGPT2Error, RequestError

#: A part is given up when this many workers have died with it, and a run when this many have died while they loaded.
_MOST_DEATHS = 3
#: Small parts are given out together, up to this many rows: a batch does not reach from one call to the next.
_ROWS_PER_CALL = 1000
#: The most calls of a run, but for the short ones at its end: Ray has a few kilobytes of data for each of them.
_MOST_CALLS = 20_000
#: Calls per worker, so that workers of unequal speed finish at about the same time.
_CALLS_PER_WORKER = 8


def execute_with_workers(workers: int, threads: int) -> Execute:
    """Return a function that processes parts in `workers` processes with `threads` threads each.

    A worker that dies is replaced, and its parts are given to another one. The function raises MaxGPT2Error for an
    error of a worker that concerns all parts.
    """

    def execute(run: CorpusRun, parts: list[int], on_progress: OnProgress) -> Outcome:
        pool = _Pool(run, Assignment(run.job, run.plan.digest, threads), on_progress)
        return pool.run(cut(run.plan.part_rows, parts, workers), workers)

    return execute


def check_numbers(workers: int | None, threads: int | None) -> None:
    """Raise RequestError for a number of workers or of threads below 1."""
    for option, value in (("--workers", workers), ("--threads-per-worker", threads)):
        if value is not None and value < 1:
            raise RequestError(f"{option} {value} is not a positive integer. Choose another.")


def share_cores(workers: int | None, threads: int | None, cores: int) -> tuple[int, int]:
    """Return the numbers of workers and of threads of each; without one of them, all cores are used."""
    if workers is None:
        return max(1, cores // (threads or 1)), threads or 1
    return workers, threads or max(1, cores // workers)


def cut(part_rows: int, parts: Sequence[int], workers: int) -> list[list[int]]:
    """Cut parts of `part_rows` rows each into the lists that are given out together.

    The last lists are shorter, so that no worker waits long for another one at the end.
    """
    few = len(parts) // _MOST_CALLS
    most = max(few, min(_ROWS_PER_CALL // part_rows, len(parts) // (workers * _CALLS_PER_WORKER)))
    least = max(1, few) if workers * _CALLS_PER_WORKER > _MOST_CALLS else 1
    lists, start = list[list[int]](), 0
    while start < len(parts):
        half = (len(parts) - start) // (2 * workers)  # of what is left for each worker
        lists.append(list(parts[start : start + max(least, min(most, half))]))
        start += len(lists[-1])
    return lists


@dataclass(eq=False)
class _Worker:
    """A worker process, its parts, and the progress that it has reported on them."""

    child: Child
    parts: list[int] = field(default_factory=list)
    rows: int = 0
    tokens: int = 0
    loaded: bool = False


class _Pool:
    """The workers of a run."""

    def __init__(self, run: CorpusRun, assignment: Assignment, on_progress: OnProgress) -> None:
        self._run, self._assignment, self._on_progress = run, assignment, on_progress
        self._workers: list[_Worker] = []
        self._waiting = deque[list[int]]()
        self._outcome = Outcome()
        self._deaths = Counter[int]()
        self._failed_starts = 0

    def run(self, calls: Sequence[list[int]], workers: int) -> Outcome:
        """Process lists of parts; end all workers in any case."""
        self._waiting.extend(calls)
        try:
            for _ in range(min(workers, len(calls))):
                self._start()
            while self._workers:
                by_connection = {worker.child.connection: worker for worker in self._workers}
                for ready in connection.wait(list(by_connection)):
                    self._receive(by_connection[ready])  # type: ignore[index]
        finally:
            for worker in self._workers:
                worker.child.connection.close()  # all of them end at the same time
            for worker in self._workers:
                worker.child.stop()
        return self._outcome

    def _start(self) -> None:
        worker = _Worker(Child("max_gpt2.batch.corpus.worker"))
        self._workers.append(worker)
        worker.child.send(self._assignment)

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.child.receive()
        except EOFError:
            self._end(worker)
            return
        if isinstance(message, Progress):
            worker.rows += message.rows
            worker.tokens += message.tokens
            self._on_progress(message)
        elif isinstance(message, MaxGPT2Error):
            raise message
        elif message is None:
            worker.loaded = True
            self._give(worker)
        elif isinstance(message, Outcome):
            self._outcome.add(message)
            self._give(worker)

    def _give(self, worker: _Worker) -> None:
        """Give a worker its next parts; without any, it ends."""
        worker.parts = self._waiting.popleft() if self._waiting else []
        worker.rows = worker.tokens = 0
        worker.child.send(worker.parts or None)

    def _end(self, worker: _Worker) -> None:
        """Remove a worker that has ended; if it died, give its parts to others."""
        reason = worker.child.stop()
        self._workers.remove(worker)
        if not worker.loaded:
            self._failed_starts += 1
        self._take_back(worker, reason)
        if self._waiting and self._failed_starts < _MOST_DEATHS:
            self._start()
        elif self._waiting and not self._workers:
            raise ProcessError(
                f"{self._failed_starts} workers ended while they loaded the model ({reason}). Check the memory of the "
                "machine, and use fewer --workers."
            )

    def _take_back(self, worker: _Worker, reason: str) -> None:
        """Give up the parts that have killed several workers; the others wait again, each on its own."""
        plan = self._run.plan
        for part in reversed(worker.parts):
            entry = read_entry(self._run.folder, plan, part) if is_done(self._run, part) else None
            if entry is not None:
                worker.rows -= entry.rows
                worker.tokens -= entry.tokens
                continue
            self._deaths[part] += 1
            if self._deaths[part] < _MOST_DEATHS:
                self._waiting.appendleft([part])
            else:
                self._outcome.failed[part] = f"{_MOST_DEATHS} workers ended while they processed it ({reason})."
        if worker.parts:
            self._on_progress(Progress(-worker.rows, -worker.tokens))
