"""Notice when a step is saved."""

import time
from collections.abc import Callable, Iterator

from tutorial.places import STEPS
from tutorial.progress import file_hash

PAUSE = 0.3


def saved_steps(wait: Callable[[], None] = lambda: time.sleep(PAUSE)) -> Iterator[int]:
    """Return the number of each step whose text changes from this call on, without end; `wait` between two looks."""
    return _changed_since(_hashes(), wait)


def _changed_since(seen: dict[int, str | None], wait: Callable[[], None]) -> Iterator[int]:
    while True:
        wait()
        now = _hashes()
        yield from (number for number, one in now.items() if one and one != seen[number])
        seen = now


def _hashes() -> dict[int, str | None]:
    return {number: file_hash(number) for number in range(1, STEPS + 1)}
