"""Let max-gpt2 and transformers, and with --peers others, read and write in turn on random checkpoints.

`make bench` writes docs/performance.md, `make bench-peers` docs/peers.md, each with a JSON and a PNG beside it.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.bandwidth import bandwidth
from bench.measures import FEW, MEASURES, MEMORY, START, Measure, start
from bench.page import OURS, REFERENCE, Row, figures, plot, updated, write_json
from bench.side import Side
from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

DOCS = Path(__file__).parent.parent / "docs"
_START = Measure(START, "s", False, lambda _: 0.0)
_PEAK = Measure(MEMORY, "MiB", False, lambda _: 0.0)


def sides_of(folder: Path) -> list[Side]:
    """Return the two sides that need nothing but what the tests need."""
    return [Side(OURS, "ours", folder), Side(REFERENCE, "reference", folder)]


def compare(size: str, sides: Sequence[Side], measures: Sequence[Measure], runs: int) -> list[Row]:
    """Take each measure of each side in turn: once to warm up, and then so many times."""
    rows = [Row(size, measure, {side.name: [] for side in sides}) for measure in measures]
    with ExitStack() as running:
        processes = {side.name: running.enter_context(side.start()) for side in sides}
        for row in rows:
            for turn in range(runs + 1):
                for name, process in processes.items():
                    figure = row.measure.take(process)
                    if turn:
                        row.figures[name].append(figure)
            print(row.line(list(row.figures)), flush=True)
    return rows


def starts(size: str, sides: Sequence[Side], runs: int) -> list[Row]:
    """Start each side in turn: once so that its files are in memory and its model is compiled, then so many times."""
    rows = [Row(size, measure, {side.name: [] for side in sides}) for measure in (_START, _PEAK)]
    for turn in range(runs + 1):
        for side in sides:
            for row, figure in zip(rows, start(side), strict=True):
                if turn:
                    row.figures[side.name].append(figure)
    for row in rows:
        print(row.line(list(row.figures)), flush=True)
    return rows


def first_compile(folder: Path) -> float:
    """Return the seconds from the start of a process to its first token when nothing is compiled yet."""
    with tempfile.TemporaryDirectory() as empty:
        return start(Side(OURS, "ours", folder, environment={"MODULAR_MAX_CACHE_DIR": empty}))[0]


def main() -> None:
    """Measure, print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="Measure others, too, installed into this folder.")
    arguments = parser.parse_args()
    runs: int = arguments.runs
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    sizes = ["gpt2"] if arguments.peers else ["gpt2", "gpt2-medium"]
    notes: dict[str, float] = {"runs": runs, "bandwidth_bytes_per_s": bandwidth()}
    with tempfile.TemporaryDirectory() as temporary:
        for size in sizes:
            folder = Path(temporary) / size
            write_checkpoint(SIZES[size], folder)
            sides = sides_of(folder)
            if arguments.peers:
                from bench.peers import peers

                found, skipped = peers(arguments.peers, folder)
                sides += found
            rows += compare(size, sides, MEASURES if size == "gpt2" else FEW, runs)
            if size == "gpt2":
                rows += starts(size, sides, max(3, runs // 2))
        if not arguments.peers:
            notes["first_compile_s"] = first_compile(Path(temporary) / "gpt2")
    name = "peers" if arguments.peers else "performance"
    write_json(DOCS / f"{name}.json", rows, notes)
    plot(DOCS / f"{name}.png", rows)
    page = DOCS / f"{name}.md"
    page.write_text(updated(page.read_text(), figures(rows, notes, skipped)))


if __name__ == "__main__":
    main()
