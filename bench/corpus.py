"""Benchmark corpus mode: one process, two processes and Ray, beside the loop of the scoring benchmark.

`make bench-corpus` writes docs/log/corpus.md and corpus.json.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.page import machine, updated
from bench.speed import LOG
from max_gpt2.config import SIZES
from max_gpt2.generation import open_model
from max_gpt2.scoring import load_scorer, sliding_windows
from tools.make_checkpoint import write_checkpoint

TEXT = Path(__file__).parent.parent / "docs" / "samples" / "pride.txt"
#: Documents of a part. Each part has the same lengths, so that two workers have the same work.
PART = 25
SHORTEST, LONGEST = 50, 3000
LOOP = "scoring loop"
ONE, RAY, TWO = "one process, two threads", "Ray, one worker with two threads", "two workers with one thread each"
#: The options of each way to run a corpus.
MODES = {
    ONE: [],
    RAY: ["--engine", "ray", "--workers", "1", "--threads-per-worker", "2"],
    TWO: ["--workers", "2", "--threads-per-worker", "1"],
}
#: The ratios that are reported, and the least that is wanted.
RATIOS = {(ONE, LOOP): 0.9, (RAY, ONE): 0.9, (TWO, ONE): None}


def lengths(count: int) -> list[int]:
    """Return the tokens of each document: the same quantiles of a log-uniform distribution in each part, shuffled."""
    quantiles = (np.arange(PART) + 0.5) / PART
    part = np.exp(np.log(SHORTEST) + quantiles * math.log(LONGEST / SHORTEST)).round().astype(int)
    rng = np.random.default_rng(0)
    parts = [rng.permutation(part) for _ in range(-(-count // PART))]
    return [int(one) for one in np.concatenate(parts)[:count]]


def documents(model: Path, sizes: Sequence[int]) -> list[str]:
    """Return a text of each number of tokens, give or take the few at its ends: excerpts of a novel, repeated."""
    tokenizer = open_model(str(model)).tokenizer
    ids = tokenizer.encode(TEXT.read_text()) * 8
    starts = np.random.default_rng(1).integers(0, len(ids) - LONGEST, len(sizes))
    return [tokenizer.decode(ids[start : start + size]) for start, size in zip(starts.tolist(), sizes, strict=True)]


def write_documents(path: Path, texts: Sequence[str]) -> None:
    """Write texts as JSON lines."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def score_loop(model: str, path: Path) -> dict[str, float]:
    """Score the texts of a file, tokenized before, as the scoring benchmark does; return the tokens and seconds."""
    scorer = load_scorer(open_model(model))
    tokenizer, window = scorer.tokenizer, scorer.config.n_positions
    sequences = [
        [tokenizer.start_id, *tokenizer.encode(json.loads(line)["text"])] for line in path.read_text().splitlines()
    ]
    windows = [one for ids in sequences for one in sliding_windows(ids, window, window // 2)]
    list(scorer.score(windows[:1]))
    started = time.perf_counter()
    for _ in scorer.score(windows):
        pass
    return {"tokens": sum(len(ids) - 1 for ids in sequences), "seconds": time.perf_counter() - started}


def run_loop(model: Path, path: Path) -> dict[str, float]:
    """Run `score_loop` in a process of its own."""
    command = [sys.executable, "-m", "bench.corpus", "--loop", str(model), str(path)]
    # MAX changes the environment of the process, but not os.environ.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ))
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_corpus(model: Path, path: Path, output: Path, options: Sequence[str]) -> dict[str, float]:
    """Score a file with `max-gpt2 score`; return the tokens and the seconds of the whole command."""
    command = [sys.executable, "-m", "max_gpt2", "score", "--json", "--model", str(model), "--unit", "text"]
    command += ["--input", str(path), "--output", str(output), "--part-rows", str(PART), *options]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    seconds = time.perf_counter() - started
    return {"tokens": json.loads(done.stdout.splitlines()[-1])["tokens"], "seconds": seconds}


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of an output by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def measure(model: Path, texts: Sequence[str], runs: int, folder: Path) -> dict[str, list[float]]:
    """Return the tokens per second of each mode, in turn, `runs` times; raises AssertionError if outputs differ.

    The time of a command is its whole time without that for a single short text.
    """
    whole, short = folder / "whole.jsonl", folder / "short.jsonl"
    write_documents(whole, texts)
    write_documents(short, [min(texts, key=len)])
    figures: dict[str, list[float]] = {name: [] for name in (LOOP, *MODES)}
    run_loop(model, short)  # compiles
    for run in range(runs):
        found = run_loop(model, whole)
        figures[LOOP].append(found["tokens"] / found["seconds"])
        outputs: list[dict[str, bytes]] = []
        for name, options in MODES.items():
            number = f"{run}-{len(outputs)}"
            start = run_corpus(model, short, folder / f"short-{number}", options)
            total = run_corpus(model, whole, folder / f"whole-{number}", options)
            figures[name].append((total["tokens"] - start["tokens"]) / (total["seconds"] - start["seconds"]))
            outputs.append(contents(folder / f"whole-{number}"))
            assert total["tokens"] == found["tokens"], "a mode has scored other tokens"
            assert outputs[-1] == outputs[0], f"{name} has written other bytes"
        print({name: round(values[-1]) for name, values in figures.items()}, flush=True)
    return figures


def ratio(figures: Mapping[str, Sequence[float]], name: str, to: str) -> float:
    """Return the median of the ratios of two modes in each run."""
    return statistics.median(ours / theirs for ours, theirs in zip(figures[name], figures[to], strict=True))


def results(figures: Mapping[str, Sequence[float]], notes: Mapping[str, Any]) -> str:
    """Return the tables and the notes."""
    lines = ["| | tokens/s | all runs |", "|---|---|---|"]
    for name, values in figures.items():
        every = ", ".join(f"{one:.0f}" for one in sorted(values))
        lines.append(f"| {name} | {statistics.median(values):.0f} | {every} |")
    ratios = ["| ratio | median | aim |", "|---|---|---|"]
    for (name, to), least in RATIOS.items():
        aim = "" if least is None else f"at least {least}"
        ratios.append(f"| {name} / {to} | {ratio(figures, name, to):.2f} | {aim} |")
    plural = "s" * (notes["runs"] > 1)
    return "\n\n".join(
        [
            "\n".join(lines),
            "\n".join(ratios),
            f"Measured on {notes['measured']}.",
            f"{notes['documents']:,} documents with {notes['tokens']:,} tokens, {notes['runs']} run{plural}.",
        ]
    )


def main() -> None:
    """Run the benchmark, print the results, and write the page unless the size is not the default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000, help=f"A multiple of {2 * PART}.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, default="gpt2", help="Sizes other than gpt2 are only printed.")
    parser.add_argument("--loop", nargs=2, metavar=("MODEL", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        print(json.dumps(score_loop(arguments.loop[0], Path(arguments.loop[1]))))
        return
    if arguments.documents < 1 or arguments.documents % (2 * PART):
        parser.error(f"--documents {arguments.documents} is not a multiple of {2 * PART}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # also those of the processes that it starts
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model"
        write_checkpoint(SIZES[arguments.size], model)
        sizes = lengths(arguments.documents)
        texts = documents(model, sizes)
        figures = measure(model, texts, arguments.runs, Path(temporary))
    notes = {"measured": machine(), "runs": arguments.runs, "documents": len(texts), "tokens": sum(sizes)}
    measured = results(figures, notes)
    print(measured)
    if arguments.size == "gpt2":
        (LOG / "corpus.json").write_text(json.dumps({**notes, "tokens_per_s": figures}, indent=1) + "\n")
        page = LOG / "corpus.md"
        page.write_text(updated(page.read_text(), measured))


if __name__ == "__main__":
    main()
