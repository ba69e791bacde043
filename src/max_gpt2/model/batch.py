"""Ragged batches of new tokens, and the types of the graph's inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import numpy as np

from max_gpt2.config import GPT2Config, Kernels

if TYPE_CHECKING:  # importing max.graph takes most of a second
    from max.graph import BufferType, TensorType

#: The most sequences that one call of the graph accepts; None for no limit.
MAX_SEQUENCES: dict[Kernels, int | None] = {"mojo": None, "builtin": 1}


@dataclass(frozen=True)
class RaggedBatch:
    """The new tokens of several sequences, concatenated without padding; all arrays are int64.

    Sequence i has the tokens `ids[row_offsets[i]:row_offsets[i + 1]]`, `cache_lengths[i]` earlier tokens in the cache,
    and the cache slot `slots[i]`. Logits are computed at the positions `logits_indices` of `ids`, which ascend.
    """

    ids: np.ndarray  # [tokens]
    positions: np.ndarray  # [tokens]
    row_offsets: np.ndarray  # [batch + 1]
    cache_lengths: np.ndarray  # [batch]
    slots: np.ndarray  # [batch]
    logits_indices: np.ndarray  # [rows]

    @classmethod
    def of(
        cls,
        new_tokens: Mapping[int, Sequence[int]],
        cache_lengths: np.ndarray,
        num_logits: int | Sequence[int] | None,
    ) -> "RaggedBatch":
        """Make a batch that appends `new_tokens[slot]` to each slot, given the lengths of all slots.

        `num_logits` is the number of tokens at the end of each sequence for which logits are computed, for all
        sequences or for each; None for all tokens.
        """
        counts = [len(ids) for ids in new_tokens.values()]
        offsets = [0, *accumulate(counts)]
        lengths = cache_lengths[list(new_tokens)].tolist()
        positions = [range(length, length + count) for length, count in zip(lengths, counts, strict=True)]
        most = [num_logits] * len(counts) if num_logits is None or isinstance(num_logits, int) else num_logits
        rows = [count if one is None else min(one, count) for one, count in zip(most, counts, strict=True)]
        indices = [range(end - count, end) for end, count in zip(offsets[1:], rows, strict=True)]
        nested = new_tokens.values(), positions, indices
        ids, flat_positions, flat_indices = map(chain.from_iterable, nested)
        return cls(*int64_arrays(ids, flat_positions, offsets, lengths, new_tokens, flat_indices))

    @property
    def arrays(self) -> list[np.ndarray]:
        """Return all arrays in the order of the graph's inputs."""
        return [self.ids, self.positions, self.row_offsets, self.cache_lengths, self.slots, self.logits_indices]


def int64_arrays(*columns: Iterable[int]) -> list[np.ndarray]:
    """Return an array of int64 for each column of integers, as views of one array.

    One conversion takes a third of the time of many small ones, which counts when a batch has a few tokens.
    """
    lists = list(map(list, columns))
    flat = np.array(list(chain.from_iterable(lists)), dtype=np.int64)
    ends = accumulate(map(len, lists))
    return [flat[end - len(column) : end] for column, end in zip(lists, ends, strict=True)]


def causal_mask(start: int, seq: int) -> np.ndarray:
    """Return the additive mask of `seq` tokens that follow `start` cached ones: [seq, start + seq] of float32.

    It is 0 where a token may attend and -inf elsewhere.
    """
    return np.triu(np.full((seq, start + seq), -np.inf, dtype=np.float32), k=start + 1)


def extra_inputs(kernels: Kernels, batch: RaggedBatch) -> list[np.ndarray]:
    """Return additional inputs of the graph: the causal mask [seq, total] of a single sequence for MAX's kernels."""
    return [] if kernels == "mojo" else [causal_mask(int(batch.cache_lengths[0]), len(batch.ids))]


def token_types() -> "list[TensorType]":
    """Return the types of the arrays of `RaggedBatch` except `logits_indices`."""
    return [int64_type(size) for size in ("tokens", "tokens", "row_offsets", "batch", "batch")]


def cache_types(config: GPT2Config) -> "list[BufferType]":
    """Return the types of `KVCache.buffers` for MAX's operations."""
    n_layer, n_head, head_dim = config.n_layer, config.n_head, config.head_dim
    keys = _float_buffer(n_layer, "slots", n_head, head_dim, "capacity")
    return [keys, _float_buffer(n_layer, "slots", n_head, "capacity", head_dim)]


def int64_type(*shape: int | str) -> "TensorType":
    """Return the type of an int64 tensor on the CPU."""
    from max.driver import CPU
    from max.dtype import DType
    from max.graph import TensorType

    return TensorType(DType.int64, shape, device=CPU())


def _float_buffer(*shape: int | str) -> "BufferType":
    from max.dtype import DType
    from max.graph import BufferType, DeviceRef

    return BufferType(DType.float32, shape, device=DeviceRef.CPU())
