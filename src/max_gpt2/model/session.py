"""Texts that are being written: the keys and values of their tokens, each of which is computed once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config
from max_gpt2.model.batch import FEEDS, Feed, Kernels, new_tokens
from max_gpt2.model.kv_cache import Cache


class Session:
    """Some texts, each in a slot of its own; they grow together or one by one. `lengths` [slots] says how far."""

    def __init__(self, config: GPT2Config, feed: Feed, run: Callable[..., list[Buffer]], slots: int, room: int) -> None:
        """Start with no tokens; `CompiledModel.session` makes one."""
        self.lengths = np.zeros(slots, dtype=np.int64)
        self._cache = Cache(config, slots, room)
        self._feed = feed
        self._run = run

    def extend(self, texts: Mapping[int, Sequence[int]], keep: int | None = 1) -> list[np.ndarray]:
        """Add ids, one at least, to the texts in these slots, and return the logits after the last `keep` of each.

        None keeps all. Each text's are [kept, vocab] of float32, in the order of `texts`. The session's room, and
        whether the ids are below `vocab_size`, is not checked.
        """
        slots, together = list(texts), self._feed.texts_at_once or len(texts)
        found: list[np.ndarray] = []
        for start in range(0, len(slots), together):
            found += self._extend({slot: texts[slot] for slot in slots[start : start + together]}, keep)
        return found

    def _extend(self, texts: dict[int, Sequence[int]], keep: int | None) -> list[np.ndarray]:
        new = new_tokens(texts, self.lengths, keep)
        inputs = [Buffer.from_numpy(array) for array in new.arrays]
        extra = [Buffer.from_numpy(array) for array in self._feed.extra(new)]
        (logits,) = self._run(*inputs, *self._cache.buffers, *extra)
        counts = np.diff(new.offsets)
        self.lengths[new.slots] += counts
        kept = counts if keep is None else np.minimum(counts, keep)
        return np.split(logits.to_numpy(), np.cumsum(kept)[:-1])

    def copy(self, source: int, target: int, length: int) -> None:
        """Make a slot's text the first `length` tokens that another holds or, if it was cleared, has held."""
        if source != target:
            self._cache.copy(source, target, length)
        self.lengths[target] = length

    def clear(self, slot: int) -> None:
        """Forget the text in a slot, which is free for another then."""
        self.lengths[slot] = 0


@dataclass(frozen=True)
class CompiledModel:
    """A model that is ready to run on the CPU in float32. It keeps no state: that is in its sessions.

    `run` takes one buffer for each input of the graph, and returns the logits. The graph uses `weights` where they lie.
    """

    config: GPT2Config
    kernels: Kernels
    run: Callable[..., list[Buffer]]
    weights: Mapping[str, np.ndarray]

    def logits(self, input_ids: np.ndarray, first: int = 0) -> np.ndarray:
        """Return the logits from position `first` on: [batch, seq] of int64 -> [batch, seq - first, vocab] float32.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        batch, seq = input_ids.shape
        rows = self.session(batch, seq).extend(dict(enumerate(input_ids.tolist())), keep=seq - first)
        return np.stack(rows)

    def session(self, slots: int, room: int) -> Session:
        """Return a place for as many texts of at most `room` tokens, at most `n_positions`."""
        return Session(self.config, FEEDS[self.kernels], self.run, slots, room)
