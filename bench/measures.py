"""What is measured of each side, and how."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.side import Process, Side

WRITTEN = 64
_SEEDS = itertools.count()


@dataclass(frozen=True)
class Measure:
    """A figure: what it is called, in what unit, and whether more of it is better."""

    name: str
    unit: str
    more_is_better: bool
    take: Callable[[Process], float]

    def ratio(self, ours: float, reference: float) -> float:
        """Return how many times better than the reference a figure is."""
        return ours / reference if self.more_is_better else reference / ours

    def text(self, figure: float) -> str:
        """Write a figure with its unit."""
        return f"{figure:.{1 if figure < 100 else 0}f} {self.unit}"


def prompts(batch: int, length: int) -> list[list[int]]:
    """Return prompts, others each time, since some remember what they have read; all vocabularies have 256 ids."""
    rows: list[list[int]] = np.random.default_rng(next(_SEEDS)).integers(0, 256, (batch, length)).tolist()
    return rows


def prefill(length: int) -> Measure:
    """Return the time from the call to the first token after a prompt."""

    def take(side: Process) -> float:
        return 1000 * float(side.ask(prompts(1, length), 1)["seconds"])

    return Measure(f"prefill, {length} tokens", "ms", False, take)


def decode(batch: int, length: int, name: str) -> Measure:
    """Return the tokens per second of all that come after the first, after prompts of `length` tokens."""

    def take(side: Process) -> float:
        first, all_ = (float(side.ask(prompts(batch, length), new)["seconds"]) for new in (1, 1 + WRITTEN))
        return batch * WRITTEN / (all_ - first)

    return Measure(name, "tokens/s", True, take)


MEASURES = [
    decode(1, 16, "decode, batch 1"),
    decode(8, 16, "decode, batch 8"),
    decode(1, 936, "decode, 1,000 tokens of context"),
    *(prefill(length) for length in (16, 64, 256, 1000)),
]
#: Enough to see that another size keeps the ratios.
FEW = [MEASURES[0], MEASURES[1], prefill(64), prefill(256)]
START = "process start to first token"
MEMORY = "peak memory, 128 tokens"


def start(side: Side) -> tuple[float, float]:
    """Start a process; return the seconds to its first token after 32, and its peak memory in MiB after 128 more."""
    with side.start() as process:
        process.ask(prompts(1, 32), 1)
        seconds = time.perf_counter() - process.started
        peak = process.ask(prompts(1, 32), 128)["peak_bytes"]
    return seconds, peak / 2**20
