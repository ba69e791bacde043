"""Benchmark max-gpt2 and transformers, and with --peers others, in turn on random checkpoints.

For gpt2, max-gpt2 and llama.cpp are also measured with weights that are stored in half precision or quantized.

`make bench` writes docs/log/performance.md, `make bench-peers` docs/log/peers.md, each with a JSON file, and updates
docs/performance.md.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import summary
from bench.bandwidth import bandwidth
from bench.implementation import Implementation
from bench.measures import FEW, MEASURES, MEMORY, MEMORY_RATIO, START, Measure, start
from bench.page import LLAMA_CPP, OURS, REFERENCE, Row, machine, plot, results, updated, write_json
from bench.page_cache import evict
from bench.stored import base_memory, llama_cpp, ours, stored_bytes
from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

LOG = Path(__file__).parent.parent / "docs" / "log"


def implementations(folder: Path) -> list[Implementation]:
    """Return the two implementations that the development environment can run."""
    return [Implementation(OURS, "ours", folder), Implementation(REFERENCE, "reference", folder)]


def compare(size: str, compared: Sequence[Implementation], measures: Sequence[Measure], runs: int) -> list[Row]:
    """Take every measure of every implementation in turn: one warm-up and then `runs` times."""
    rows = [Row(size, measure, {one.name: [] for one in compared}) for measure in measures]
    with ExitStack() as running:
        processes = {one.name: running.enter_context(one.start()) for one in compared}
        for row in rows:
            for repeat in range(runs + 1):
                for name, process in processes.items():
                    value = row.measure.take(process)
                    if repeat:
                        row.figures[name].append(value)
            print(row.line(list(row.figures)), flush=True)
    return rows


def starts(size: str, compared: Sequence[Implementation], runs: int, home: Path) -> list[Row]:
    """Start every implementation in turn: once to compile and to fill the page cache, then `runs` times.

    The empty models that show the memory of the processes are written into `home`.
    """
    rows = [Row(size, measure, {one.name: [] for one in compared}) for measure in (START, MEMORY)]
    for repeat in range(runs + 1):
        for one in compared:
            for row, value in zip(rows, start(one), strict=True):
                if repeat:
                    row.figures[one.name].append(value)
    bases, weights = base_memory(compared, home), stored_bytes(compared)
    peaks = rows[1].figures
    multiples = {name: [(peak - base) * 2**20 / weights[name] for peak in peaks[name]] for name, base in bases.items()}
    rows.append(Row(size, MEMORY_RATIO, multiples))
    for row in rows:
        print(row.line(list(row.figures)), flush=True)
    return rows


def first_compile(folder: Path) -> float:
    """Return the seconds from process start to the first token with an empty compile cache."""
    with tempfile.TemporaryDirectory() as empty:
        return start(Implementation(OURS, "ours", folder, environment={"MODULAR_MAX_CACHE_DIR": empty}))[0]


def main() -> None:
    """Run the benchmark, print the rows, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="Also benchmark peers, installed here.")
    arguments = parser.parse_args()
    runs: int = arguments.runs
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    sizes = ["gpt2"] if arguments.peers else ["gpt2", "gpt2-medium"]
    notes: dict[str, Any] = {"measured": machine(), "runs": runs, "bandwidth_bytes_per_s": bandwidth()}
    with tempfile.TemporaryDirectory() as temporary:
        for size in sizes:
            folder = Path(temporary) / size
            write_checkpoint(SIZES[size], folder)
            compared = implementations(folder)
            if arguments.peers:
                from bench.peers import peers

                found, skipped = peers(arguments.peers, folder)
                compared += found
            if size == "gpt2":
                compared += ours(SIZES[size], folder)
                compared += [typed for one in compared if one.name == LLAMA_CPP for typed in llama_cpp(one)]
                notes["stored_bytes"] = stored_bytes(compared)
            evict(Path(temporary))
            rows += compare(size, compared, MEASURES if size == "gpt2" else FEW, runs)
            if size == "gpt2":
                rows += starts(size, compared, max(3, runs // 2), Path(temporary))
        if not arguments.peers:
            notes["first_compile_s"] = first_compile(Path(temporary) / "gpt2")
    name = "peers" if arguments.peers else "performance"
    write_json(LOG / f"{name}.json", rows, notes)
    if arguments.peers:
        plot(LOG / "peers.png", rows)
    page = LOG / f"{name}.md"
    page.write_text(updated(page.read_text(), results(rows, notes, skipped)))
    summary.main()


if __name__ == "__main__":
    main()
