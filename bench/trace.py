"""Benchmark traces with max-gpt2 and transformers, and with --peers TransformerLens, in turn on a random checkpoint.

`make bench-trace` writes docs/log/trace.md and trace.json.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.implementation import Implementation, Process
from bench.measures import Measure, prompts
from bench.page import OURS, REFERENCE, Row, machine, updated, write_json
from bench.peers import TRACING_PEERS, peers
from bench.speed import LOG, compare
from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

TOKENS = 100
EAGER = "transformers, eager"
PROCESSED = "TransformerLens, weights processed"


def tracing(what: str, name: str) -> Measure:
    """Measure the time of a trace in ms."""

    def take(process: Process) -> float:
        return 1000 * float(process.trace(prompts(1, TOKENS)[0], what)["seconds"])

    return Measure(f"{name}, {TOKENS} tokens", "ms", False, take, paired=True)


MEASURES = [tracing("blocks", "outputs of all blocks"), tracing("logits", "outputs of all blocks, and logits")]
EVERYTHING = tracing("everything", "everything")


def implementations(folder: Path) -> list[Implementation]:
    """Return the implementations that the development environment can run."""
    return [
        Implementation(OURS, "ours", folder, loader="load_tracer"),
        Implementation(REFERENCE, "reference", folder, loader="load_tracer"),
        Implementation(EAGER, "reference", folder, loader="load_eager_tracer"),
    ]


def differences(compared: Sequence[Implementation]) -> dict[str, dict[str, float]]:
    """Return the largest differences of logits and of block outputs from transformers with eager attention, by name.

    The last block is left out, since transformers returns its output after the final layer norm.
    """
    (ids,), found = prompts(1, TOKENS), {}
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(compared):
            file = Path(folder) / f"{number}.npz"
            with one.start() as process:
                process.trace(ids, "logits", file)
            found[one.name] = dict(np.load(file))
    reference = found.pop(EAGER)
    return {
        name: {part: _largest(arrays[part], value) for part, value in reference.items()}
        for name, arrays in found.items()
    }


def _largest(array: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(array[: len(reference)] - reference).max())


def results(rows: Sequence[Row], notes: Mapping[str, Any], skipped: Mapping[str, str]) -> str:
    """Return the tables with the notes (as in the JSON) and the reasons for skipped implementations."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures if name != OURS))
    lines = [f"| | {' | '.join(names)} |", f"|{'---|' * (1 + len(names))}"]
    for row in rows:
        cells = [f"{row.ratio(OURS, to=name):.2f}" if name in row.figures else "" for name in names]
        lines.append(f"| {row.measure.name} | {' | '.join(cells)} |")
    table = ["| largest difference from transformers, eager | logits | outputs of blocks |", "|---|---|---|"]
    for name, values in notes["differences"].items():
        table.append(f"| {name} | {values['logits']:.1e} | {values['blocks']:.1e} |")
    parts = [
        "\n".join(lines),
        f"Measured on {notes['measured']}.",
        f"Medians of {notes['runs']:.0f} runs; a ratio is the median of the ratios of each run.",
        "\n".join(table),
    ]
    return "\n\n".join([*parts, *(f"{name} was skipped: {why}" for name, why in skipped.items())])


def main() -> None:
    """Run the benchmark, print the results, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="Also benchmark TransformerLens, installed here.")
    arguments = parser.parse_args()
    runs: int = arguments.runs
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_checkpoint(SIZES["gpt2"], folder)
        compared, processed = implementations(folder), []
        if arguments.peers:
            found, skipped = peers(arguments.peers, folder, TRACING_PEERS, "load_tracer")
            compared += found
            processed = [replace(one, name=PROCESSED, loader="load_processed_tracer") for one in found]
        rows = compare("gpt2", compared, MEASURES, runs)
        rows += compare("gpt2", [one for one in compared if one.name != REFERENCE], [EVERYTHING], runs)
        notes = {"measured": machine(), "runs": runs, "differences": differences([*compared, *processed])}
    measured = results(rows, notes, skipped)
    print(measured)
    write_json(LOG / "trace.json", rows, notes)
    page = LOG / "trace.md"
    page.write_text(updated(page.read_text(), measured))


if __name__ == "__main__":
    main()
