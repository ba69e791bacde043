"""Memory that one cache leaves to the next."""

from collections.abc import Iterator

import numpy as np
import pytest

from max_gpt2.model import kv_cache as spare


class Owner:
    """Something that can be referred to weakly."""


@pytest.fixture(autouse=True)
def nothing_spare() -> Iterator[None]:
    kept = spare._spare[:]
    spare._spare.clear()
    yield
    spare._spare[:] = kept


def test_what_an_owner_leaves_is_taken_again() -> None:
    owner, other = Owner(), Owner()
    memory = spare.floats(owner, 100)
    beside = spare.floats(other, 100)
    assert not np.shares_memory(memory, beside)  # both live
    del owner
    after = Owner()
    assert np.shares_memory(memory, spare.floats(after, 70))
    assert not np.shares_memory(memory, spare.floats(other, 70))  # only one has it


def test_what_is_too_small_is_let_go() -> None:
    owner = Owner()
    memory = spare.floats(owner, 100)
    del owner
    larger = spare.floats(Owner(), 101)
    assert len(larger) == 101
    assert not np.shares_memory(memory, larger)


def test_only_so_much_is_kept() -> None:
    owner = Owner()
    spare.floats(owner, spare._MOST_BYTES // 4 + 1)
    del owner
    assert spare._spare == []
