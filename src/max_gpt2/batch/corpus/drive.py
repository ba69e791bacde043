"""Run a job: open it, process the parts of a shard that are missing, and sum up."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from max_gpt2._progress import Runner, silently
from max_gpt2.batch.corpus.job import CorpusRun
from max_gpt2.batch.corpus.manifest import Entry, read_entries
from max_gpt2.batch.corpus.plan import shard_parts
from max_gpt2.batch.corpus.readers import Row, check_unchanged
from max_gpt2.batch.corpus.run import Outcome, PartRunner, token_count
from max_gpt2.errors import StoppedError


@dataclass(frozen=True)
class Progress:
    """The progress since the last report: the numbers of rows and tokens, and the messages of failed rows."""

    rows: int
    tokens: int
    errors: tuple[str, ...] = ()


OnProgress = Callable[[Progress], None]
#: Opens a display of progress for (rows of all parts, rows that are done).
OpenDisplay = Callable[[int, int], AbstractContextManager[OnProgress]]
#: Processes parts of a run somewhere, and reports the progress.
Execute = Callable[[CorpusRun, list[int], OnProgress], Outcome]


@dataclass(frozen=True)
class CorpusSummary:
    """The result of a run: of the parts of its shard, and of the whole output.

    Attributes:
        run: The run.
        shard: Its shard (K, N).
        before: The number of parts of the shard that were done before.
        entries: The entries of the parts of the shard that are done.
        outcome: What became of the others.

    """

    run: CorpusRun
    shard: tuple[int, int]
    before: int
    entries: Mapping[int, Entry]
    outcome: Outcome

    @property
    def complete(self) -> bool:
        """True if all parts of the shard are done."""
        return len(self.entries) == len(shard_parts(self.run.plan, self.shard))

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        entries = self.entries.values()
        return {
            "shard": "{}/{}".format(*self.shard),
            "parts": len(shard_parts(self.run.plan, self.shard)),
            "done": len(self.entries),
            "resumed": self.before,
            "rows": sum(one.rows for one in entries),
            "errors": sum(one.errors for one in entries),
            "tokens": sum(one.tokens for one in entries),
            "taken": self.outcome.taken,
            "failed": {self.run.plan.name(part): message for part, message in self.outcome.failed.items()},
        }


def run_corpus(
    run: CorpusRun, execute: Execute, display: OpenDisplay, shard: tuple[int, int] = (1, 1)
) -> CorpusSummary:
    """Write the parts of a shard that are missing.

    Raises RequestError if the input has changed or the output cannot be written, and StoppedError after Ctrl-C.
    """
    plan, parts = run.plan, shard_parts(run.plan, shard)
    before = read_entries(run.folder, plan, parts)
    missing = [part for part in parts if part not in before]
    _check_complete(run, parts, set(missing))
    outcome = Outcome()
    if missing:
        rows = [stop - first for first, stop in map(plan.range, parts)]
        with display(sum(rows), sum(one.rows for one in before.values())) as on_progress:
            try:
                outcome = execute(run, missing, on_progress)
            except KeyboardInterrupt as error:
                done = len(read_entries(run.folder, plan, parts))
                raise StoppedError(
                    f"Stopped by Ctrl-C. {done} of {len(parts)} parts are done in {run.job.output}; run the same "
                    "command again to resume."
                ) from error
    entries = read_entries(run.folder, plan, parts) if missing else before
    return CorpusSummary(run, shard, len(before), entries, outcome)


def _check_complete(run: CorpusRun, parts: range, missing: set[int]) -> None:
    """Check that the files of complete parts have not changed; those of missing parts are checked as they are read."""
    start = 0
    for file in run.plan.files:
        stop = start + file.rows
        own = range(start // run.plan.part_rows, -(-stop // run.plan.part_rows))
        if any(part in parts for part in own) and missing.isdisjoint(own):
            check_unchanged(run.dataset, file)
        start = stop


def execute_here(load: Runner = silently) -> Execute:
    """Return a function that processes parts in this process; `load` shows the progress of loading the model."""

    def execute(run: CorpusRun, parts: list[int], on_progress: OnProgress) -> Outcome:
        def on_row(row: Row, result: Mapping[str, Any]) -> None:
            on_progress(Progress(1, token_count(result), row_errors(row, result)))

        return PartRunner(run, run.task.load(run.opened, load), on_row).run(parts)

    return execute


def row_errors(row: Row, result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the message of a row that failed, with its place."""
    return (f"{row.file}, row {row.number}: {result['error']}",) if "error" in result else ()
