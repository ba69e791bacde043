"""A process that runs a corpus job without a model, and dies or fails where it is told to.

`python -m tests.batch.corpus.faulty` reads a `Fault` as JSON from its first argument and prints the outcome as JSON.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from max_gpt2.batch.corpus import folder
from max_gpt2.batch.corpus.drive import execute_here, run_corpus
from max_gpt2.batch.corpus.job import Job, open_run
from max_gpt2.batch.corpus.plan import Format, parse_shard
from max_gpt2.batch.corpus.readers import ColumnNames, Row
from max_gpt2.batch.corpus.tasks import ProcessRows
from max_gpt2.errors import MaxGPT2Error
from tests.batch.corpus.support import Display


@dataclass(frozen=True)
class Fault:
    """A job and what goes wrong.

    Attributes:
        input: The input.
        output: The output folder.
        model: A checkpoint, of which only the fingerprint is used.
        die: When the process kills itself: at a row, or before or after a file gets its name.
        at: The number of the row or of the file, from 0: first comes the plan, then an entry and a part in turn.
        seconds: How long a row takes.
        largest: The largest size of a file in bytes, as on a disk that is full.
        shard: The shard.
        part_rows: Rows of a part.
        format: The format of the parts.
        offset: An option of the task, which determines the results.

    """

    input: str
    output: str
    model: str
    die: str = ""
    at: int = 0
    seconds: float = 0.0
    largest: int | None = None
    shard: str = "1/1"
    part_rows: int = 10
    format: Format = "parquet"
    offset: int = 0


@dataclass(frozen=True)
class CountTask:
    """Counts the characters of each text."""

    fault: Fault
    command: str = "score"
    text_column: str = "text"

    def resolve(self, opened: object, recorded: object) -> "CountTask":
        del opened, recorded
        return self

    def options(self) -> dict[str, Any]:
        return {"offset": self.fault.offset}

    def results(self) -> pa.Schema:
        return pa.schema([("tokens", pa.int64())])

    def load(self, opened: object, run: object) -> ProcessRows:
        del opened, run

        def process(rows: Iterable[Row]) -> Iterator[Mapping[str, Any]]:
            for row in rows:
                time.sleep(self.fault.seconds)
                print(row.index, file=sys.stderr, flush=True)
                if self.fault.die == "row" and row.index == self.fault.at:
                    kill()
                yield {"error": row.problem} if row.text is None else {"tokens": len(row.text) + self.fault.offset}

        return process


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(call: Callable[..., Any], at: int, *, before: bool) -> Callable[..., Any]:
    """Return a function that kills the process before or after its call number `at`, counted from 0."""
    calls = 0

    def wrapped(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls > at:
            kill()
        result = call(*arguments)
        if calls > at:
            kill()
        return result

    return wrapped


def install(fault: Fault) -> None:
    """Make this process die where the fault says."""
    claim = folder.LocalClaim
    if fault.die in ("before", "after"):
        claim.commit = dying(claim.commit, fault.at, before=fault.die == "before")  # type: ignore[method-assign]


def main() -> None:
    values = json.loads(sys.argv[1])
    fault = Fault(**{one.name: values[one.name] for one in fields(Fault)})
    columns = ColumnNames("text", keep=("text",))
    job = Job(
        fault.input,
        fault.output,
        CountTask(fault),
        fault.model,
        columns=columns,
        format=fault.format,
        part_rows=fault.part_rows,
    )
    try:
        install(fault)
        opened = open_run(job)
        if fault.largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.largest, fault.largest))
        summary = run_corpus(opened, execute_here(), Display(), parse_shard(fault.shard))
    except MaxGPT2Error as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(2)
    written = [entry.part for entry in summary.outcome.written]
    failed = {str(part): message for part, message in summary.outcome.failed.items()}
    print(json.dumps({"written": written, "taken": summary.outcome.taken, "failed": failed}))
    sys.exit(0 if summary.complete else 2)


def command(fault: Fault) -> list[str]:
    """Return the command line of the process."""
    return [sys.executable, "-m", "tests.batch.corpus.faulty", json.dumps(asdict(fault))]


if __name__ == "__main__":
    main()
