"""The contiguous key-value cache, and the buffer pool that its memory comes from."""

import weakref

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config

#: Larger buffers are not returned to the pool. The limit holds a sequence of 800 tokens of the small model.
_MAX_POOLED_BYTES = 64 * 2**20

#: At most one buffer, free for the next cache.
_buffer_pool: list[np.ndarray] = []


def allocate_floats(owner: object, count: int) -> np.ndarray:
    """Return uninitialized float32 memory [count], which goes back to the pool when `owner` is collected.

    The operating system commits the pages of a new buffer when they are first written.
    """
    try:
        memory = _buffer_pool.pop()
    except IndexError:
        memory = np.zeros(0, np.float32)
    if memory.size < count:
        memory = np.zeros(count, np.float32)
    if memory.nbytes <= _MAX_POOLED_BYTES:
        weakref.finalize(owner, _release, memory).atexit = False
    return memory[:count]


def _release(memory: np.ndarray) -> None:
    _buffer_pool[:] = [memory]


#: The kernels read keys in blocks of this many tokens, so the capacity is a whole number of blocks. The number is odd,
#: since rows at a distance of a power of two would map to the same sets of the CPU's cache.
_BLOCK = 64


class KVCache:
    """A cache of keys and values with one slot for each sequence. A slot's contents are undefined until written."""

    def __init__(self, config: GPT2Config, slots: int, capacity: int) -> None:
        """Allocate `slots` slots of `capacity` tokens each."""
        capacity = _padded(capacity)
        leading = (config.n_layer, slots, config.n_head)
        keys, values = np.split(allocate_floats(self, cache_bytes(config, slots, capacity) // 4), 2)
        self._keys = keys.reshape(*leading, config.head_dim, capacity)
        self._values = values.reshape(*leading, capacity, config.head_dim)
        self.buffers = [Buffer.from_numpy(self._keys), Buffer.from_numpy(self._values)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of slot `source` to slot `target`."""
        self._keys[:, target, ..., :length] = self._keys[:, source, ..., :length]
        self._values[:, target, :, :length] = self._values[:, source, :, :length]


def cache_bytes(config: GPT2Config, slots: int, capacity: int) -> int:
    """Return the size in bytes of a cache with `slots` slots of `capacity` tokens."""
    return 2 * 4 * config.n_layer * slots * config.n_embd * _padded(capacity)


def _padded(capacity: int) -> int:
    return (-(-capacity // _BLOCK) | 1) * _BLOCK
