"""Memory that is given back and taken again, since what the system gives anew it has to clear first."""

import weakref

import numpy as np

#: How much is kept for the next one at most: a text of 800 tokens of the small model.
_MOST_BYTES = 64 * 2**20

_spare: list[np.ndarray] = []


def floats(owner: object, count: int) -> np.ndarray:
    """Return so many float32, of whatever value, for as long as their owner lives: [count].

    Memory that nobody had before is taken when it is written to.
    """
    try:
        memory = _spare.pop()
    except IndexError:
        memory = np.zeros(0, np.float32)
    if memory.size < count:
        memory = np.zeros(count, np.float32)
    if memory.nbytes <= _MOST_BYTES:
        weakref.finalize(owner, _give_back, memory).atexit = False
    return memory[:count]


def _give_back(memory: np.ndarray) -> None:
    _spare[:] = [memory]
