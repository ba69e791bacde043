"""Benchmark scoring with max-gpt2 and transformers, and with --peers others, in turn on a random checkpoint.

`make bench-score` writes docs/log/scoring.md and scoring.json, and updates docs/performance.md.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import summary
from bench.bandwidth import bandwidth
from bench.implementation import Implementation
from bench.measures import SCORING, prompts
from bench.page import OURS, PRODUCTS, REFERENCE, Row, machine, table, updated, write_json
from bench.peak import peak
from bench.peers import SCORING_PEERS, peers
from bench.speed import LOG, compare
from max_gpt2.checkpoint.layout import canonical_shapes, is_conv1d
from max_gpt2.config import SIZES, GPT2Config
from tools.make_checkpoint import write_checkpoint


def implementations(folder: Path) -> list[Implementation]:
    """Return the implementations that the development environment can run, and the matrix products alone."""
    modules = {OURS: "ours", PRODUCTS: "products", REFERENCE: "reference"}
    return [Implementation(name, module, folder, loader="load_scorer") for name, module in modules.items()]


def differences(compared: Sequence[Implementation]) -> dict[str, float]:
    """Return the largest difference of a logprob from transformers for the same texts, by implementation."""
    texts, scores = prompts(4, 50), {}
    for one in compared:
        if one.name != PRODUCTS:
            with one.start() as process:
                scores[one.name] = np.array(process.score(texts)["output"])
    reference = scores.pop(REFERENCE)
    return {name: float(abs(found - reference).max()) for name, found in scores.items()}


def operations(config: GPT2Config) -> int:
    """Return the floating-point operations of the matrix products for one token: two for each weight."""
    weights = [shape for name, shape in canonical_shapes(config).items() if is_conv1d(name)]
    return 2 * (sum(rows * columns for rows, columns in weights) + config.vocab_size * config.n_embd)


def results(rows: Sequence[Row], notes: Mapping[str, Any], skipped: Mapping[str, str]) -> str:
    """Return the table with its notes (as in the JSON) and the reasons for skipped implementations."""
    parts = [
        table(rows),
        f"Measured on {notes['measured']}.",
        f"Medians of {notes['runs']:.0f} runs; a ratio is the median of the ratios of each run.",
        f"The rate of the matrix products alone, and the time of {OURS} divided by theirs:",
        "\n".join(
            f"- {row.measure.name}: {row.median(PRODUCTS) * notes['operations_per_token'] / 1e9:.0f} GFLOP/s, "
            f"{row.ratio(PRODUCTS, OURS):.2f}"
            for row in rows
        ),
        f"Multiply-adds in registers, all cores: {notes['peak_operations_per_s'] / 1e9:.0f} GFLOP/s.",
        f"Memory bandwidth (two PyTorch threads): {notes['bandwidth_bytes_per_s'] / 1e9:.1f} GB/s.",
        "Largest difference of a logprob from transformers:\n"
        + ", ".join(f"{name} {value:.1e}" for name, value in notes["differences"].items())
        + ".",
    ]
    return "\n\n".join([*parts, *(f"{name} was skipped: {why}" for name, why in skipped.items())])


def main() -> None:
    """Run the benchmark, print the rows, and write the pages unless the size is not the default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", choices=SIZES, default="gpt2", help="Sizes other than gpt2 are only printed.")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="Also benchmark peers, installed here.")
    arguments = parser.parse_args()
    runs: int = arguments.runs
    config = SIZES[arguments.size]
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_checkpoint(config, folder)
        compared = implementations(folder)
        if arguments.peers:
            found, skipped = peers(arguments.peers, folder, SCORING_PEERS, "load_scorer")
            compared += found
        notes: dict[str, Any] = {
            "measured": machine(),
            "runs": runs,
            "bandwidth_bytes_per_s": bandwidth(),
            "peak_operations_per_s": peak(),
            "operations_per_token": operations(config),
            "differences": differences(compared),
        }
        rows = compare(arguments.size, compared, SCORING, runs)
    measured = results(rows, notes, skipped)
    print(measured)
    if arguments.size == "gpt2":
        write_json(LOG / "scoring.json", rows, notes)
        page = LOG / "scoring.md"
        page.write_text(updated(page.read_text(), measured))
        summary.main()


if __name__ == "__main__":
    main()
