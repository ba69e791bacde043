"""What the graph is told about the tokens that it is to add to the texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


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
