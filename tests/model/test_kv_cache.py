"""The buffer pool reuses the memory of a released cache."""

from collections.abc import Iterator

import numpy as np
import pytest

from max_gpt2.model import kv_cache


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
