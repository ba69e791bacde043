"""What the command line and `main.py` show: progress with a clock on standard error, tables, one-sentence errors."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from max_gpt2._progress import Result

Align = Literal["left", "right"]

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)


def with_clock(label: str, work: Callable[[], Result], /) -> Result:
    """Do the work and show what is going on and how long it has taken; a `Runner`.

    The work runs in a thread of its own: the clock goes on, and Ctrl-C is answered at once, while MAX compiles.
    """
    import max.engine  # noqa: F401  # here, since MAX lets go at the end only in the thread that imported it

    outcome: list[Result] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # handed to the caller below
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
    """Show a bar for work that is counted in bytes, from when it is first told how many are done, and of how many.

    The work stays in the main thread, where Ctrl-C is an exception: what it has begun, it can take back.
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
def line_bar(label: str, total: int, done: int) -> Iterator[Callable[[str], None]]:
    """Show a bar for `total` lines, `done` of which are done already; it is told of each line, and how fast it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[speed]}"), console=stderr) as bar:
        task = bar.add_task(label, total=total, completed=done, speed="")
        yield lambda speed: bar.update(task, advance=1, speed=speed)


def table(*columns: tuple[str, Align], rows: list[list[str]], title: str | None = None) -> Table:
    """Make a table of named columns, each aligned "left" or "right"."""
    made = Table(title=None if title is None else Text(title), title_justify="left")
    for name, align in columns:
        made.add_column(Text(name), justify=align)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))  # a text is shown as it is, also when it holds "[bold]"
    return made


def numeric(*names: str) -> list[tuple[str, Align]]:
    """Return columns of numbers."""
    return [(name, "right") for name in names]
