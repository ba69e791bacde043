"""The options of a corpus run, and the commands that inspect its output: `max-gpt2 corpus status` and `verify`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from max_gpt2.cli.options import AsJson, print_json
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.batch.corpus.drive import CorpusSummary, Execute, OnProgress
    from max_gpt2.batch.corpus.plan import Format
    from max_gpt2.batch.corpus.tasks import Task
    from max_gpt2.checkpoint import LoadOptions

TextColumn = Annotated[
    str | None, typer.Option("--text-column", metavar="NAME", help='The text in the input instead of "text".')
]
PromptColumn = Annotated[
    str | None, typer.Option("--text-column", metavar="NAME", help='The prompt in the input instead of "prompt".')
]
IdColumn = Annotated[
    str | None, typer.Option("--id-column", metavar="NAME", help='The id in the input instead of "id".')
]
KeepColumn = Annotated[
    list[str] | None,
    typer.Option("--keep-column", metavar="NAME", help="Copy a column of the input to the parts; repeatable."),
]
# The values repeat batch.corpus.plan.Format: typer needs a Literal at import time.
WhichFormat = Annotated[
    Literal["parquet", "jsonl"] | None, typer.Option("--format", help="The format of the parts (default: parquet).")
]
PartRows = Annotated[
    int | None, typer.Option("--part-rows", metavar="N", help="Rows of the input in a part (default: 1000).")
]
Shard = Annotated[
    str | None, typer.Option("--shard", metavar="K/N", help="Process the K-th of N shares of the parts only.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Process parts in N processes (default: this one).")
]
ThreadsPerWorker = Annotated[
    int | None, typer.Option("--threads-per-worker", metavar="T", help="Cores of each worker.")
]
WhichEngine = Annotated[
    Literal["local", "ray"] | None, typer.Option("--engine", help="Run workers here or with Ray Data (default: local).")
]
Address = Annotated[
    str | None, typer.Option("--address", metavar="ADDR", help="The Ray cluster: auto, HOST:PORT, or local.")
]


@dataclass(frozen=True)
class CorpusOptions:
    """The options that only a corpus run has; None if they are not given."""

    keep_column: list[str] | None
    format: "Format | None"
    part_rows: int | None
    shard: str | None
    workers: int | None
    threads_per_worker: int | None
    engine: Literal["local", "ray"] | None
    address: str | None

    def check_absent(self, output: str | None) -> None:
        """Raise RequestError if one is given although the output is not a folder."""
        for one in fields(self):
            if getattr(self, one.name) is not None:
                option = f"--{one.name.replace('_', '-')}"
                given = "there is no --output" if output is None else f"--output {output} is a file"
                raise RequestError(f"{option} needs an --output that is a folder, and {given}. Remove {option}.")


def is_folder(output: str | None) -> bool:
    """Return whether an --output is the folder of a corpus run: it exists, ends with a slash, or has no suffix."""
    if output is None:
        return False
    if "://" in output or output.endswith("/"):
        return True
    path = Path(output)
    return path.is_dir() if path.exists() else not path.suffix


def run_task(
    task: "Task",
    files: tuple[str, str, bool],
    columns: tuple[str | None, str | None],
    model: "tuple[str, LoadOptions]",
    options: CorpusOptions,
    as_json: bool,
) -> None:
    """Run a task on an input; `files` are the input, the output and --force, `columns` those of the text and the id.

    The exit code is 1 when a row fails, and 2 when a part is missing: a scheduler repeats the latter only.
    """
    from max_gpt2.batch.corpus.drive import run_corpus
    from max_gpt2.batch.corpus.job import Job, open_run
    from max_gpt2.batch.corpus.plan import parse_shard
    from max_gpt2.batch.corpus.readers import ColumnNames
    from max_gpt2.cli.console import byte_bar

    source, target, force = files
    if force and options.shard is not None:
        raise RequestError("--force would delete the parts of other shards. Remove --force or --shard.")
    job = Job(
        source,
        target,
        task,
        *model,
        columns=ColumnNames(columns[0] or task.text_column, columns[1], tuple(options.keep_column or ())),
        format=options.format or "parquet",
        part_rows=1000 if options.part_rows is None else options.part_rows,
    )
    shard, execute = parse_shard(options.shard), _executor(options)
    with byte_bar("Reading the input") as on_scan:
        run = open_run(job, force=force, on_scan=on_scan)
    if ignored := run.dataset.ignored:
        more = f" and {len(ignored) - 1} more" if len(ignored) > 1 else ""
        print(f"Not data, and not read: {ignored[0]}{more}.", file=sys.stderr)
    summary = run_corpus(run, execute, _show_progress, shard)
    values = {"model": model[0], "input": source, "output": target, **summary.to_dict()}
    print_json(values) if as_json else _show_summary(summary, values)
    raise typer.Exit(2 if not summary.complete else 1 if values["errors"] else 0)


def _executor(options: CorpusOptions) -> "Execute":
    """Return the function that processes parts: here, in worker processes, or with Ray."""
    from max_gpt2.batch.corpus.drive import execute_here
    from max_gpt2.batch.corpus.workers import check_numbers, execute_with_workers, share_cores
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.system.machine import usable_cores

    check_numbers(options.workers, options.threads_per_worker)
    if options.engine == "ray":
        from max_gpt2.batch.corpus.cluster import execute_with_ray

        return execute_with_ray(options.address, options.workers, options.threads_per_worker)
    if options.address is not None:
        raise RequestError("--address is that of a Ray cluster. Add --engine ray, or remove --address.")
    if options.workers is None and options.threads_per_worker is None:
        return execute_here(run_with_timer)
    return execute_with_workers(*share_cores(options.workers, options.threads_per_worker, int(usable_cores())))


#: Rows that fail are printed up to this many; all of them are in the output.
_MOST_ERRORS = 20


@contextmanager
def _show_progress(total: int, done: int) -> "Iterator[OnProgress]":
    """Show a progress bar in rows with the rate in tokens; print the first rows that fail."""
    import time

    from max_gpt2.batch.corpus.drive import Progress
    from max_gpt2.cli.console import row_bar

    tokens, errors = 0, 0
    started: float | None = None
    with row_bar("Rows", total, done) as advance:

        def on_progress(progress: Progress) -> None:
            nonlocal tokens, errors, started
            started = time.perf_counter() if started is None else started  # the model is loaded by now
            tokens += progress.tokens
            for message in progress.errors:
                errors += 1
                if errors <= _MOST_ERRORS:
                    print(f"error: {message}", file=sys.stderr)
                elif errors == _MOST_ERRORS + 1:
                    print('More rows fail; the column "error" of the output has every message.', file=sys.stderr)
            elapsed = time.perf_counter() - started
            advance(progress.rows, f"{tokens / elapsed:.0f} tokens/s" if elapsed > 1 else "")

        yield on_progress


def _show_summary(summary: "CorpusSummary", values: dict[str, Any]) -> None:
    """Print the totals as one line, and what is missing."""
    from max_gpt2.cli.batch import plural

    for name, message in values["failed"].items():
        print(f"error: {name} is missing: {message}", file=sys.stderr)
    if taken := len(values["taken"]):
        print(f"{plural(taken, 'part')} being written by another run; see max-gpt2 corpus status.", file=sys.stderr)
    shard = "" if summary.shard == (1, 1) else f" of shard {values['shard']}"
    before = f" ({values['resumed']} from an earlier run)" if 0 < values["resumed"] < values["done"] else ""
    before = ", already complete" if values["resumed"] == values["parts"] else before
    print(
        f"{values['output']}: {values['done']:,} of {plural(values['parts'], 'part')}{shard}{before}, "
        f"{plural(values['rows'], 'row')}, {plural(values['errors'], 'error')}, {plural(values['tokens'], 'token')}."
    )


corpus = typer.Typer(
    name="corpus", help="Inspect the output folder of a corpus run.", rich_markup_mode=None, no_args_is_help=True
)
Folder = Annotated[str, typer.Argument(metavar="OUT", help="The output folder of a run.")]


@corpus.command()
def status(
    output: Folder,
    shards: Annotated[int, typer.Option("--shards", metavar="N", help="Show each of N shards.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Show how many parts and rows are done, over all shards."""
    from max_gpt2.batch.corpus.check import open_output, read_status
    from max_gpt2.cli.console import numeric, stdout, table

    if shards < 1:
        raise RequestError(f"--shards {shards} is not a positive integer. Choose another.")
    folder, plan = open_output(output)
    found = read_status(folder, plan, shards)
    if as_json:
        print_json({"output": output, "command": plan.command, "shards": [asdict(one) for one in found]})
        return
    rows = [
        [one.shard, *(f"{n:,}" for n in (one.done, one.parts, one.rows_done, one.rows, one.tokens, one.errors))]
        for one in found
    ]
    print(f"{output}: {plan.command}, parts of {plan.part_rows:,} rows")
    columns = numeric("parts done", "of", "rows done", "of", "tokens", "errors")
    stdout.print(table(("shard", "left"), *columns, rows=rows))


@corpus.command()
def verify(output: Folder, as_json: AsJson = False) -> None:
    """Check the checksum of every part, and that each row of the input is there once.

    The exit code is 1 if a part is missing or damaged.
    """
    from max_gpt2.batch.corpus.check import open_output, verify_output
    from max_gpt2.cli.batch import plural
    from max_gpt2.cli.console import row_bar

    folder, plan = open_output(output)
    with row_bar("Parts", plan.parts, 0) as advance:
        report = verify_output(folder, plan, lambda: advance(1, ""))
    if as_json:
        print_json({"output": output, "parts": plan.parts, "rows": plan.rows, "verified": asdict(report)})
    else:
        for name, problem in report.problems.items():
            print(f"{name} {problem}")
        print(
            f"{output}: {report.parts:,} of {plural(plan.parts, 'part')} verified, with {report.rows:,} of "
            f"{plural(plan.rows, 'row')}, {report.errors:,} of them with an error."
        )
        if report.problems:
            print("Delete the files that have changed, and run the same command again to write what is missing.")
    raise typer.Exit(1 if report.problems else 0)
