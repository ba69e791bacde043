"""How exactly the system wakes threads up that sleep for a time."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")

_SET_TIMER_SLACK, _GET_TIMER_SLACK = 29, 30  # <linux/prctl.h>
#: In nanoseconds.
_LATE = 50_000_000


def patient_at_first(call: Callable[..., Result]) -> Callable[..., Result]:
    """Return the same function; what its first call starts has `patient_timers`.

    MAX 26.7 starts a thread when a process runs its first graph. Nothing waits for it, and it wakes up 5,000 times a
    second, each time on a core that is computing: without this, all kernels are slower by a seventh on two cores.
    """
    called = False

    def run(*arguments: object) -> Result:
        nonlocal called
        if called:
            return call(*arguments)
        with patient_timers():
            called = True
            return call(*arguments)

    return run


@contextmanager
def patient_timers() -> Iterator[None]:
    """Let the threads that are started in here sleep up to 50 ms longer than they say; does nothing without Linux.

    A thread inherits this "timer slack" from the one that starts it: prctl(2).
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    before = -1 if prctl is None else prctl(_GET_TIMER_SLACK, 0, 0, 0, 0)
    if prctl is None or before < 0:
        yield
        return
    prctl(_SET_TIMER_SLACK, ctypes.c_ulong(_LATE), 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_TIMER_SLACK, ctypes.c_ulong(before), 0, 0, 0)
