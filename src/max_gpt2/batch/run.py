"""Run over the lines of a file; an interrupted run can be resumed."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from max_gpt2.batch.files import OutputFile, Record
from max_gpt2.batch.inputs import USUAL_COLUMNS, Columns, Line, Source
from max_gpt2.errors import MaxGPT2Error, RequestError, StoppedError

#: Processes lines: yields one record per line, in order.
ProcessLines = Callable[[Iterable[Line]], Iterator[Record]]
Found = TypeVar("Found")


def attempt(line: Line, process: Callable[[Line], Found]) -> Found | MaxGPT2Error:
    """Return the result of processing a line, or the error."""
    try:
        if line.problem is not None:
            raise RequestError(line.problem)
        return process(line)
    except MaxGPT2Error as error:
        return error


def make_record(line: Line, result: Record | MaxGPT2Error) -> Record:
    """Return the record of a line: its number, its id if it has one, and the result or the error."""
    id_ = line.fields.get("id")
    return {
        "line": line.number,
        **({"id": id_} if isinstance(id_, str | int) else {}),
        **({"error": str(result)} if isinstance(result, MaxGPT2Error) else result),
    }


@dataclass
class Totals:
    """Totals over all records: errors and tokens and, for scores, the sums that perplexities are made of.

    `logprob` has the base of the scores, `counted` is the number of tokens with a log probability, and `bytes` the
    length of the texts in UTF-8.
    """

    errors: int = 0
    tokens: int = 0
    logprob: float = 0.0
    counted: int = 0
    bytes: int = 0

    def add(self, record: Record) -> None:
        """Add one record."""
        if "error" in record:
            self.errors += 1
            return
        self.tokens += len(record["tokens"])
        if "counted" in record:
            self.logprob += record["logprob"]
            self.counted += record["counted"]
            self.bytes += len(record["text"].encode())


OnRecord = Callable[[Record], None]
#: Opens a progress display for (total lines, lines from an earlier run) that is called with each new record.
OpenProgress = Callable[[int, int], AbstractContextManager[OnRecord]]


@dataclass(frozen=True)
class BatchFiles:
    """Input and output of a run; `force` overwrites an output that belongs to a different run.

    `source` is a file, a folder, a glob or a URI, and `columns` are the names of the text and of the id in it.
    """

    source: str
    target: Path | None
    force: bool = False
    columns: Columns = USUAL_COLUMNS


@dataclass(frozen=True)
class BatchSummary:
    """Result of a run: line counts and totals."""

    files: BatchFiles
    lines: int
    resumed: int
    totals: Totals

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "input": self.files.source,
            "output": str(self.files.target) if self.files.target else None,
            "lines": self.lines,
            "resumed": self.resumed,
            "errors": self.totals.errors,
            "tokens": self.totals.tokens,
        }


def fill(
    output: OutputFile, source: Source, totals: Totals, make: Callable[[], ProcessLines], progress: OpenProgress
) -> int:
    """Write a record for each line that the output does not have yet; return the number of lines it had."""
    total = source.count
    with report_interrupt(output, total):
        output.resume(source, totals.add)
        resumed = output.done
        if resumed < total:
            process = make()
            with progress(total, resumed) as on_record:
                output.begin()
                for record in process(source.lines(output.last)):
                    output.write(record)
                    totals.add(record)
                    on_record(record)
    return resumed


@contextmanager
def report_interrupt(output: OutputFile, total: int) -> Iterator[None]:
    """Raise StoppedError for Ctrl-C; its message has the number of written lines and how to resume."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"Stopped by Ctrl-C after {output.done} of {total} lines. They are in {output.path}; run the same "
            "command again to resume."
        ) from error
