"""The types of the arrays that the graph takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from max.driver import CPU
from max.dtype import DType
from max.graph import BufferType, DeviceRef, TensorType

from max_gpt2.config import GPT2Config
from max_gpt2.config import Kernels as Kernels


@dataclass(frozen=True)
class NewTokens:
    """The new tokens of some texts, one text after another; all arrays are of int64.

    `ids` [tokens] and their `positions` [tokens]; text i has the tokens [offsets[i], offsets[i + 1]), and `lengths[i]`
    others in the cache, in the slot `slots[i]`. The logits are wanted after the tokens `kept`.
    """

    ids: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    slots: np.ndarray
    kept: np.ndarray

    @property
    def arrays(self) -> list[np.ndarray]:
        """All of them, in the order in which the graph takes them."""
        return [self.ids, self.positions, self.offsets, self.lengths, self.slots, self.kept]


def new_tokens(texts: Mapping[int, Sequence[int]], lengths: np.ndarray, keep: int | None) -> NewTokens:
    """Return what adds ids to the texts in these slots, of which `lengths` [slots] tokens are in the cache each.

    `keep` is after how many of each text's last tokens the logits are wanted, None for all.
    """
    slots = np.array(list(texts), dtype=np.int64)
    counts = [len(ids) for ids in texts.values()]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    before = lengths[slots].astype(np.int64)
    positions = [np.arange(start, start + count) for start, count in zip(before, counts, strict=True)]
    kept = [
        np.arange(end - (count if keep is None else min(keep, count)), end)
        for end, count in zip(offsets[1:], counts, strict=True)
    ]
    ids = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in texts.values()])
    return NewTokens(ids, np.concatenate(positions).astype(np.int64), offsets, before, slots, np.concatenate(kept))


def causal_mask(start: int, seq: int) -> np.ndarray:
    """Return what hides the later tokens from each of `seq` tokens after `start` others.

    [seq, start + seq] of float32: 0 where a token may look, -inf where it may not.
    """
    return np.triu(np.full((seq, start + seq), -np.inf, dtype=np.float32), k=start + 1)


@dataclass(frozen=True)
class Feed:
    """How many texts can be computed together, None for as many as there are; and the arrays of `extra_types`."""

    texts_at_once: int | None
    extra: Callable[[NewTokens], list[np.ndarray]]


def _mask(new: NewTokens) -> list[np.ndarray]:
    """Return the mask of the only text: [seq, total]."""
    return [causal_mask(int(new.lengths[0]), len(new.ids))]


FEEDS: dict[Kernels, Feed] = {"mojo": Feed(None, lambda _new: []), "builtin": Feed(1, _mask)}


def token_types() -> list[TensorType]:
    """Return the types of the arrays of `NewTokens`, without the last."""
    return [ids_type("tokens"), ids_type("tokens"), ids_type("offsets"), ids_type("texts"), ids_type("texts")]


def paged_token_types() -> list[TensorType]:
    """Return the same for a cache in pages: a table of them takes the place of the slots."""
    return [*token_types()[:-1], TensorType(DType.int64, ["texts", "pages"], device=CPU())]


def blocks_type(config: GPT2Config) -> BufferType:
    """Return the type of the blocks of `PagedTexts`."""
    shape: list[int | str] = ["blocks", 2, config.n_layer, "page", config.n_head, config.head_dim]
    return BufferType(DType.float32, shape, device=DeviceRef.from_device(CPU()))


def ids_type(dimension: str) -> TensorType:
    """Return the type of a list of numbers."""
    return TensorType(DType.int64, [dimension], device=CPU())


def cache_types(config: GPT2Config) -> list[BufferType]:
    """Return the types of `Cache.buffers`."""
    front: list[int | str] = [config.n_layer, "slots", config.n_head]
    shapes: tuple[list[int | str], ...] = ([*front, config.head_dim, "room"], [*front, "room", config.head_dim])
    return [BufferType(DType.float32, shape, device=DeviceRef.from_device(CPU())) for shape in shapes]
