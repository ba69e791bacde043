"""The protocol for showing the progress of long work. The library itself prints nothing."""

from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")
COMPILING = "Compiling for MAX (about a minute the first time, then seconds)"


class Runner(Protocol):
    """A function that does some work and returns its result. It may show `label` meanwhile."""

    def __call__(self, label: str, work: Callable[[], Result], /) -> Result:
        """Return `work()`."""
        ...


def silently(_label: str, work: Callable[[], Result], /) -> Result:
    """Return `work()` without showing progress."""
    return work()
