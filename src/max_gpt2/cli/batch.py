"""Show the progress and the results of `max-gpt2 generate --input` and `max-gpt2 score --input`."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from max_gpt2.batch import BatchFiles, Columns, OnRecord, Record
from max_gpt2.cli.console import line_bar, numeric, stdout, table


@contextmanager
def show_progress(label: str, source: str, total: int, done: int) -> Iterator[OnRecord]:
    """Show a progress bar for `total` lines, `done` of them from an earlier run; yield a callback for each record.

    Errors of single lines are printed on standard error.
    """
    tokens = 0
    with line_bar(label, total, done) as advance:
        started = time.perf_counter()

        def on_record(record: Record) -> None:
            nonlocal tokens
            if "error" in record:
                print(f"error: {source}, line {record['line']}: {record['error']}", file=sys.stderr)
            else:
                tokens += len(record["tokens"])
            advance(f"{tokens / (time.perf_counter() - started):.0f} tokens/s")

        yield on_record


def batch_files(source: str, target: str | None, force: bool, columns: tuple[str | None, str | None]) -> BatchFiles:
    """Return the paths of --input and --output, and the names of the columns of the text and the id."""
    return BatchFiles(source, None if target is None else Path(target), force, Columns(*columns))


def show_generated(summary: dict[str, Any]) -> None:
    """Print the summary of a generation run as one line."""
    print(f"{_describe_counts(summary)}, seed {summary['seed']}.")


def show_scores(summary: dict[str, Any]) -> None:
    """Print a row per record unless they are in a file, then the totals."""
    if "records" in summary:
        rows = [
            [str(one["line"]), str(one.get("id", "")), *(["", "error", ""] if "error" in one else _score_cells(one))]
            for one in summary["records"]
        ]
        columns = numeric("tokens", "log probability", "perplexity")
        stdout.print(table(("line", "right"), ("id", "left"), *columns, rows=rows))
    print(f"{_describe_counts(summary)}.")
    if summary["counted"]:
        print(f"Total: {describe_totals(summary, summary['tokens'])}")
    if summary["errors_file"]:
        print(f"The lines with errors are in {summary['errors_file']}.")


def describe_totals(totals: dict[str, Any], tokens: int) -> str:
    """Return the totals of one or several scores as text."""
    counted = totals["counted"]
    uncounted = "" if counted == tokens else f", {counted} of them with a probability"
    base = "" if totals["base"] == "e" else f" (base {totals['base']})"
    values = [f"{plural(tokens, 'token')}{uncounted}", f"log probability {totals['logprob']:.4f}{base}"]
    values += [
        f"{name.replace('_', ' ')} {totals[name]:.4f}"
        for name in ("perplexity", "bits_per_byte")
        if totals[name] is not None
    ]
    return ", ".join(values)


def _describe_counts(summary: dict[str, Any]) -> str:
    total, resumed, errors = summary["lines"], summary["resumed"], summary["errors"]
    before = ", already complete" if resumed == total else f" ({resumed} from an earlier run)" if resumed else ""
    counts = f"{plural(total, 'line')}{before}, {plural(errors, 'error')}, {plural(summary['tokens'], 'token')}"
    return f"{summary['output'] or summary['input']}: {counts}"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: "no rows", "1 row", "1,200 rows"."""
    return f"1 {noun}" if count == 1 else f"{f'{count:,}' if count else 'no'} {noun}s"


def _score_cells(record: Record) -> list[str]:
    perplexity = record["perplexity"]
    return [
        str(len(record["tokens"])),
        f"{record['logprob']:.4f}",
        "" if perplexity is None else f"{perplexity:.4f}",
    ]
