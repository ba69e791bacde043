"""The keys and values of the tokens that a model has seen, so that each is computed once."""

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config

#: The kernels read keys in blocks of so many tokens, so there is room for whole blocks. Their number is odd, since rows
#: that lie a power of two apart fall on each other in a processor's cache.
_BLOCK = 64


class Cache:
    """Room for some texts, a slot for each. A slot's memory is taken when it is written to."""

    def __init__(self, config: GPT2Config, slots: int, room: int) -> None:
        """Make room for texts of at most `room` tokens."""
        room = _padded(room)
        front = (config.n_layer, slots, config.n_head)
        self._keys = np.zeros((*front, config.head_dim, room), np.float32)
        self._values = np.zeros((*front, room, config.head_dim), np.float32)
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
