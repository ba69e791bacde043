"""The buffer pool reuses the memory of a released cache; slots are copied; keys are in blocks."""

from collections.abc import Iterator

import numpy as np
import pytest

from max_gpt2.config import GPT2Config, Kernels
from max_gpt2.model import kv_cache
from max_gpt2.model.kv_cache import KVCache, transposed_keys


class Owner:
    """An object that supports weak references."""


@pytest.fixture(autouse=True)
def empty_pool() -> Iterator[None]:
    before = kv_cache._buffer_pool[:]
    kv_cache._buffer_pool.clear()
    yield
    kv_cache._buffer_pool[:] = before


def test_memory_is_reused_after_its_owner_is_collected() -> None:
    owner, other = Owner(), Owner()
    memory = kv_cache.allocate_floats(owner, 100)
    beside = kv_cache.allocate_floats(other, 100)
    assert not np.shares_memory(memory, beside)  # both owners are alive
    del owner
    after = Owner()
    assert np.shares_memory(memory, kv_cache.allocate_floats(after, 70))
    assert not np.shares_memory(memory, kv_cache.allocate_floats(other, 70))  # the pool hands it out once


def test_too_small_buffer_is_discarded() -> None:
    owner = Owner()
    memory = kv_cache.allocate_floats(owner, 100)
    del owner
    larger = kv_cache.allocate_floats(Owner(), 101)
    assert len(larger) == 101
    assert not np.shares_memory(memory, larger)


def test_large_buffers_are_not_pooled() -> None:
    owner = Owner()
    kv_cache.allocate_floats(owner, kv_cache._MAX_POOLED_BYTES // 4 + 1)
    del owner
    assert kv_cache._buffer_pool == []


CONFIG = GPT2Config(100, n_positions=200, n_embd=30, n_head=3, n_layer=2)


def tokens(cache: KVCache, slot: int, kernels: Kernels) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys [n_layer, n_head, head_dim, capacity] and values [n_layer, n_head, capacity, head_dim]."""
    keys, values = (buffer.to_numpy()[:, slot] for buffer in cache.buffers)
    if kernels == "mojo":
        keys = np.stack([transposed_keys(layer, values.shape[2]) for layer in keys])
    return keys, values


@pytest.mark.parametrize("kernels", ["mojo", "builtin"])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 130, 192])
def test_copied_slot_has_the_same_tokens(kernels: Kernels, length: int) -> None:
    cache, rng = KVCache(CONFIG, 3, 150, kernels), np.random.default_rng(length)
    for buffer in cache.buffers:
        buffer.to_numpy()[:] = rng.standard_normal(buffer.shape, np.float32)
    source, untouched = ([part.copy() for part in tokens(cache, slot, kernels)] for slot in (2, 1))
    cache.copy(2, 0, length)
    for slot in (0, 2):
        keys, values = tokens(cache, slot, kernels)
        np.testing.assert_array_equal(keys[..., :length], source[0][..., :length])
        np.testing.assert_array_equal(values[:, :, :length], source[1][:, :, :length])
    for ours, before in zip(tokens(cache, 1, kernels), untouched, strict=True):
        np.testing.assert_array_equal(ours, before)


def test_transposed_keys_have_the_tokens_of_all_blocks_in_order() -> None:
    keys = np.arange(2 * 5 * 150).reshape(2, 5, 150)  # [n_head, head_dim, tokens]
    padded = np.pad(keys, ((0, 0), (0, 0), (0, 42)))
    blocks = np.stack([padded[..., start : start + 64] for start in range(0, 192, 64)], axis=1)
    np.testing.assert_array_equal(transposed_keys(blocks, 150), keys)
