"""Measure how the time of some work grows with its size."""

import gc
import time
from collections.abc import Callable
from typing import TypeVar

Work = TypeVar("Work")


def assert_linear(prepare: Callable[[int], Work], work: Callable[[Work], object], size: int) -> None:
    """Assert that twice the size takes at most 2.5 times the CPU time, measured over two doublings.

    One doubling may cross the size of a cache, and the size at which a table grows. A machine under load slows single
    runs down, so the best of several runs counts, and the assertion is repeated before it fails.
    """
    small, large = prepare(size), prepare(4 * size)
    for runs in (4, 8, 16):
        first, second = _best(lambda: work(small), runs), _best(lambda: work(large), runs)
        if second <= 2.5**2 * first + 0.002:
            return
    raise AssertionError(f"size {size}: {first * 1e3:.1f} ms, four times the size: {second * 1e3:.1f} ms")


def _best(work: Callable[[], object], runs: int) -> float:
    """Return the shortest CPU time of several runs, in seconds, without those of the garbage collector."""
    found = []
    gc.disable()
    try:
        for _ in range(runs):
            started = time.process_time()
            work()
            found.append(time.process_time() - started)
    finally:
        gc.enable()
    return min(found)
