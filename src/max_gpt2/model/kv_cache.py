"""The contiguous key-value cache, and the buffer pool that its memory comes from."""

import weakref

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config, Kernels

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


#: Tokens of a block of keys in the caches of our kernels; `kernels/tuning.mojo` has the same number. A capacity is an
#: odd number of blocks, since MAX's operations read the keys in rows of the capacity, and rows at a distance of a power
#: of two would map to the same sets of the CPU's cache.
KEY_BLOCK = 64


class KVCache:
    """A cache of keys and values with one slot for each sequence. A slot's contents are undefined until written.

    `buffers` are the values, [n_layer, slots, n_head, capacity, head_dim], after the keys: for our kernels [n_layer,
    slots, n_head, capacity / KEY_BLOCK, head_dim, KEY_BLOCK], for MAX's [n_layer, slots, n_head, head_dim, capacity].
    """

    def __init__(self, config: GPT2Config, slots: int, capacity: int, kernels: Kernels = "mojo") -> None:
        """Allocate `slots` slots of `capacity` tokens each."""
        capacity = _padded(capacity)
        leading = (config.n_layer, slots, config.n_head)
        block = KEY_BLOCK if kernels == "mojo" else capacity
        keys, values = np.split(allocate_floats(self, cache_bytes(config, slots, capacity) // 4), 2)
        self._keys = keys.reshape(*leading, capacity // block, config.head_dim, block)
        self._values = values.reshape(*leading, capacity, config.head_dim)
        keys = self._keys if kernels == "mojo" else self._keys[:, :, :, 0]
        self.buffers = [Buffer.from_numpy(keys), Buffer.from_numpy(self._values)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of slot `source` to slot `target`."""
        blocks = -(-length // self._keys.shape[-1])
        self._keys[:, target, :, :blocks] = self._keys[:, source, :, :blocks]
        self._values[:, target, :, :length] = self._values[:, source, :, :length]


def transposed_keys(blocks: np.ndarray, length: int) -> np.ndarray:
    """Return the first keys of a slot: [n_head, blocks, head_dim, KEY_BLOCK] -> [n_head, head_dim, length]."""
    n_head, _, head_dim, _ = blocks.shape
    return blocks.transpose(0, 2, 1, 3).reshape(n_head, head_dim, -1)[..., :length]


def cache_bytes(config: GPT2Config, slots: int, capacity: int) -> int:
    """Return the size in bytes of a cache with `slots` slots of `capacity` tokens."""
    return 2 * 4 * config.n_layer * slots * config.n_embd * _padded(capacity)


def _padded(capacity: int) -> int:
    return (-(-capacity // KEY_BLOCK) | 1) * KEY_BLOCK
