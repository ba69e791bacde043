"""The keys and values of the tokens that a model has seen, so that each is computed once."""

from typing import NamedTuple

from max.experimental import functional as F
from max.experimental.tensor import Tensor
from max.graph import DimLike, TensorValue


class LayerCache(NamedTuple):
    """One layer's keys and values, [batch, room, n_head, head_dim] both, and how many tokens are in them, a scalar."""

    keys: Tensor
    values: Tensor
    start: Tensor


def extend(cache: LayerCache, key: Tensor, value: Tensor, total: DimLike) -> tuple[Tensor, Tensor]:
    """Put new keys and values behind those of the cache, in place, and return all of them.

    [batch, seq, n_head, head_dim] both -> [batch, total, n_head, head_dim] both.
    """
    start = TensorValue(cache.start)
    end = TensorValue(cache.start + Tensor.from_dim(key.shape[1]))
    found = []
    for buffer, new in ((cache.keys, key), (cache.values, value)):
        F.buffer_store_slice(buffer, new, [slice(None), (slice(start, end), key.shape[1])])
        found.append(buffer[:, (slice(0, end), total)])
    return found[0], found[1]
