"""The keys and values of the tokens that a model has seen, so that each is computed once."""

import weakref

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config

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


#: The kernels read keys in blocks of so many tokens, so there is room for whole blocks. Their number is odd, since rows
#: that lie a power of two apart fall on each other in a processor's cache.
_BLOCK = 64


class Cache:
    """Room for some texts, a slot for each. What a slot holds before it is written to is not to be read."""

    def __init__(self, config: GPT2Config, slots: int, room: int) -> None:
        """Make room for texts of at most `room` tokens."""
        room = _padded(room)
        front = (config.n_layer, slots, config.n_head)
        keys, values = np.split(floats(self, cache_bytes(config, slots, room) // 4), 2)
        self._keys = keys.reshape(*front, config.head_dim, room)
        self._values = values.reshape(*front, room, config.head_dim)
        self.buffers = [Buffer.from_numpy(self._keys), Buffer.from_numpy(self._values)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot to another."""
        self._keys[:, target, ..., :length] = self._keys[:, source, ..., :length]
        self._values[:, target, :, :length] = self._values[:, source, :, :length]


def cache_bytes(config: GPT2Config, slots: int, room: int) -> int:
    """Return how much memory the keys and values of `slots` texts of `room` tokens take."""
    return 2 * 4 * config.n_layer * slots * config.n_embd * _padded(room)


def _padded(room: int) -> int:
    return (-(-room // _BLOCK) | 1) * _BLOCK
