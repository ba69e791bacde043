"""A model that is compiled, called with numpy arrays. Importing it imports nothing that compiles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config
from max_gpt2.model.feed import FEEDS, Kernels
from max_gpt2.model.session import Session


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
