"""Measures taken of each implementation."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.implementation import Implementation, Process

NEW_TOKENS = 64
_SEEDS = itertools.count()


@dataclass(frozen=True)
class Measure:
    """A measure: its name, its unit, whether more is better, and a function that takes it.

    Ratios of a `paired` measure are medians of the ratios of every repeat, others are ratios of the medians. `digits`
    are those after the decimal point of values below 100.
    """

    name: str
    unit: str
    more_is_better: bool
    take: Callable[[Process], float]
    paired: bool = False
    digits: int = 1

    def ratio(self, ours: float, reference: float) -> float:
        """Return how many times better than the reference a value is."""
        return ours / reference if self.more_is_better else reference / ours

    def text(self, figure: float) -> str:
        """Format a value with its unit."""
        return f"{figure:.{self.digits if figure < 100 else 0}f} {self.unit}"


def prompts(batch: int, length: int) -> list[list[int]]:
    """Return new random prompts `[batch, length]` on every call, since some implementations cache prefixes.

    Ids are below 256, which every vocabulary has.
    """
    rows: list[list[int]] = np.random.default_rng(next(_SEEDS)).integers(0, 256, (batch, length)).tolist()
    return rows


def prefill(length: int) -> Measure:
    """Measure the time from the call to the first token, in ms, for one prompt of `length` tokens."""

    def take(process: Process) -> float:
        return 1000 * float(process.generate(prompts(1, length), 1)["seconds"])

    return Measure(f"prefill, {length} tokens", "ms", False, take)


def decode(batch: int, length: int, name: str) -> Measure:
    """Measure the tokens per second after the first token, for `batch` prompts of `length` tokens."""

    def take(process: Process) -> float:
        first, total = (float(process.generate(prompts(batch, length), new)["seconds"]) for new in (1, 1 + NEW_TOKENS))
        return batch * NEW_TOKENS / (total - first)

    return Measure(name, "tokens/s", True, take)


def scoring(batch: int, length: int) -> Measure:
    """Measure the tokens scored per second, for `batch` texts of `length` tokens after a first, given one."""

    def take(process: Process) -> float:
        return batch * length / float(process.score(prompts(batch, length + 1))["seconds"])

    return Measure(f"scoring, {length:,} tokens a text", "tokens/s", True, take, paired=True)


MEASURES = [
    decode(1, 16, "decode, batch 1"),
    decode(8, 16, "decode, batch 8"),
    decode(1, 936, "decode, 1,000 tokens of context"),
    *(prefill(length) for length in (16, 64, 256, 1000)),
]
#: A subset for the larger size.
FEW = [MEASURES[0], MEASURES[1], prefill(64), prefill(256)]
#: Taken by `start`, which needs a process of its own.
START = Measure("process start to first token", "s", False, lambda _: math.nan, digits=2)
MEMORY = Measure("peak memory, 128 tokens", "MiB", False, lambda _: math.nan)
#: The peak minus that of the same process with an empty model, as a multiple of the weights' bytes in the file.
MEMORY_RATIO = Measure("memory above the process's base", "x weights", False, lambda _: math.nan, digits=2)
#: The batches have about 2,000 tokens each.
SCORING = [scoring(2, 1000), scoring(16, 128), scoring(85, 24)]
ALL = [*MEASURES, START, MEMORY, MEMORY_RATIO, *SCORING]


def start(implementation: Implementation) -> tuple[float, float]:
    """Start a process; return the seconds to its first token and its peak memory in MiB after 128 tokens."""
    with implementation.start() as process:
        process.generate(prompts(1, 32), 1)
        seconds = time.perf_counter() - process.started
        peak = process.generate(prompts(1, 32), 128)["peak_bytes"]
    return seconds, peak / 2**20
