"""The number of threads of MAX, for several processes that share the cores of a machine.

MAX 26.7 starts a pool of threads with the first CPU device of a process: one thread for each core that the process may
run on at that moment. `InferenceSession(num_threads=)` aborts the process if the device exists already, and `CPU()`
creates it without an option. So the affinity of the process chooses the size of the pool. It is restored afterwards:
a process that stayed on some cores would wait for them when another program computes on them, and in a container with
a CPU quota, which sees all cores of the machine, every container would choose the same ones.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_TASKS = Path("/proc/self/task")


def start_thread_pool(threads: int) -> None:
    """Start MAX's thread pool with a number of threads, at most one for each core that the process may use.

    Call it before anything else uses MAX: the size of a pool does not change. On a system without `sched_setaffinity`,
    such as macOS, the pool has the size that MAX chooses.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    from max.driver import CPU

    allowed = os.sched_getaffinity(0)
    with suppress(PermissionError):  # a sandbox may forbid the call
        os.sched_setaffinity(0, distinct_cores(allowed)[:threads])
    try:
        CPU()
    finally:
        for task in _TASKS.iterdir():  # the threads of the pool have inherited the affinity
            with suppress(PermissionError, ProcessLookupError):  # a thread may have ended
                os.sched_setaffinity(int(task.name), allowed)


def distinct_cores(processors: Iterable[int], topology: Path = _TOPOLOGY) -> list[int]:
    """Return logical processors in an order that has one of each physical core first."""
    seen: dict[str, int] = {}
    order = []
    for number in sorted(processors):
        try:
            core = (topology / f"cpu{number}" / "topology" / "thread_siblings_list").read_text()
        except OSError:
            core = str(number)
        order.append((seen.setdefault(core, 0), number))
        seen[core] += 1
    return [number for _, number in sorted(order)]
