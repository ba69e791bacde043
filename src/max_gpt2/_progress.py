"""How the library lets its user watch long work without printing anything itself."""

from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")
COMPILING = "Compiling for MAX (about a minute the first time, then seconds)"


class Runner(Protocol):
    """Carries a piece of work out and returns its result, showing `label` meanwhile if it likes."""

    def __call__(self, label: str, work: Callable[[], Result], /) -> Result:
        """Return `work()`."""
        ...


def silently(_label: str, work: Callable[[], Result], /) -> Result:
    """Do the work and show nothing."""
    return work()
