"""Let max-gpt2 and transformers read and write in turn on one random checkpoint, and write docs/performance.md."""

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
WRITTEN = 64
INTRODUCTION = """# Performance

`make bench` writes a random checkpoint of the `gpt2` size and lets max-gpt2 and transformers (PyTorch, `sdpa`, float32,
two threads) work on it in turn, in one process, {runs} times each; the figures are medians. *Prefill* is the time to
the logits after a prompt. *Decode* is tokens per second, of {written} greedily written tokens after a prompt of 16,
through `GPT2.generate` and through transformers' `generate`. The ratio is above 1 where max-gpt2 is faster.

| measure | max-gpt2 | transformers | ratio |
|---|---|---|---|
"""


def sides(folder: str) -> tuple[Any, Any]:
    """Load the checkpoint on both sides."""
    import torch
    import transformers

    from max_gpt2 import GPT2

    torch.set_num_threads(2)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    return GPT2.from_pretrained(folder), model


def medians(runs: int, *works: Callable[[], float]) -> list[float]:
    """Do the works in turn, once to warm up and then so many times; return the median of what each measures."""
    for work in works:
        work()
    found = [[work() for work in works] for _ in range(runs)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def prefill(ours: Any, theirs: Any, tokens: list[int]) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return what reads a prompt on each side, and the seconds that it takes."""
    import torch

    row = torch.tensor([tokens])
    compiled = ours.engine.model

    def by_max() -> float:
        started = time.perf_counter()
        compiled.session(1, len(tokens)).extend({0: tokens})
        return time.perf_counter() - started

    def by_torch() -> float:
        started = time.perf_counter()
        with torch.no_grad():
            theirs(row, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - started

    return by_max, by_torch


def decode(ours: Any, theirs: Any, tokens: list[int]) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return what continues a prompt on each side, and the tokens per second."""
    import torch
    from transformers import GenerationConfig

    settings = GenerationConfig(do_sample=False, max_new_tokens=WRITTEN, eos_token_id=None, pad_token_id=0)
    ids = torch.tensor([tokens])

    def by_max() -> float:
        started = time.perf_counter()
        written = ours.generate(tokens, max_new_tokens=WRITTEN, temperature=0)
        return len(written.tokens) / (time.perf_counter() - started)

    def by_torch() -> float:
        started = time.perf_counter()
        theirs.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return WRITTEN / (time.perf_counter() - started)

    return by_max, by_torch


def main() -> None:
    """Measure, print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs: int = parser.parse_args().runs
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(SIZES["gpt2"], Path(folder))
        ours, theirs = sides(folder)
        ids = np.random.default_rng(0).integers(0, ours.tokenizer.size, 1000).tolist()
        speed, reference = medians(runs, *decode(ours, theirs, ids[:16]))
        lines.append(f"| decode, batch 1 | {speed:.1f} tokens/s | {reference:.1f} tokens/s | {speed / reference:.2f} |")
        print(lines[-1], flush=True)
        for length in (16, 64, 256, 1000):
            seconds, reference = medians(runs, *prefill(ours, theirs, ids[:length]))
            cells = f"{1000 * seconds:.0f} ms | {1000 * reference:.0f} ms | {reference / seconds:.2f}"
            lines.append(f"| prefill, {length} tokens | {cells} |")
            print(lines[-1], flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    measured = (
        f"\nMeasured on {datetime.datetime.now(tz=datetime.UTC).date()}: {machine}, MAX 26.7.0, PyTorch 2.13.0.\n"
    )
    PAGE.write_text(INTRODUCTION.format(runs=runs, written=WRITTEN) + "\n".join(lines) + "\n" + measured)


if __name__ == "__main__":
    main()
