"""Print tables on standard output and progress on standard error."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from max_gpt2._progress import Result

if TYPE_CHECKING:
    from max_gpt2.generation import Loaded, Request

Align = Literal["left", "right"]

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)


def run_with_timer(label: str, work: Callable[[], Result], /) -> Result:
    """Run `work()`, show the elapsed time meanwhile, and return its result; a `Runner`.

    The work runs in its own thread, so that the timer advances and Ctrl-C takes effect while MAX compiles.
    """
    import max.engine  # noqa: F401  # in this thread: MAX shuts down cleanly only in the thread that imported it

    outcome: list[Result] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # raised in the calling thread below
            failure.append(error)

    started = time.perf_counter()
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    with stderr.status(label) as status:
        while thread.is_alive():
            thread.join(0.2)
            status.update(f"{label} ... {time.perf_counter() - started:.0f} s")
    if failure:
        raise failure[0]
    stderr.print(f"[dim]{label}: {time.perf_counter() - started:.1f} s[/dim]")
    return outcome[0]


@contextmanager
def byte_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar in bytes; yield a function that takes the bytes done and the total.

    The bar appears at the first call. The work stays in the main thread, where Ctrl-C raises KeyboardInterrupt and
    partial output can be removed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=stderr)
    task = bar.add_task(label, total=None)

    def advance(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def row_bar(label: str, total: int, done: int) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar for `total` rows; yield a function of a number of new rows and the current speed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[speed]}"), console=stderr) as bar:
        task = bar.add_task(label, total=total, completed=done, speed="")
        yield lambda rows, speed: bar.update(task, advance=rows, speed=speed)


@contextmanager
def line_bar(label: str, total: int, done: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar for `total` lines; yield a function to call once per line with the current speed."""
    with row_bar(label, total, done) as advance:
        yield lambda speed: advance(1, speed)


def table(*columns: tuple[str, Align], rows: list[list[str]], title: str | None = None) -> Table:
    """Return a table with named columns, each aligned "left" or "right"."""
    made = Table(title=None if title is None else Text(title), title_justify="left")
    for name, align in columns:
        made.add_column(Text(name), justify=align)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))  # Text: "[bold]" in a cell is not markup
    return made


def numeric(*names: str) -> list[tuple[str, Align]]:
    """Return right-aligned columns, for numbers."""
    return [(name, "right") for name in names]


def stream_to_stdout(loaded: "Loaded", request: "Request") -> None:
    """Print the prompt and its continuation token by token, and a summary on standard error."""
    print(loaded.engine.tokenizer.decode(request.prompt_tokens), end="", flush=True)
    stamps, count, reason = [], 0, "length"
    for output in loaded.engine.stream(request):
        print(output.text_delta, end="", flush=True)
        stamps.append(time.perf_counter())
        count += output.token is not None
        reason = output.finish_reason or reason
    print()
    speed = f", {(len(stamps) - 1) / (stamps[-1] - stamps[0]):.1f} tokens/s" if len(stamps) > 1 else ""
    stderr.print(f"[dim]{count} tokens (finish reason: {reason}), seed {request.sampling.seed}{speed}[/dim]")
