"""A scoring model without weights: it tests what happens around the model, without compiling a graph."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from max_gpt2.model.scoring import TokenScores, Window
from max_gpt2.model.scoring import scores_from_logits as from_logits


@dataclass
class FakeModel:
    """A model whose logits are random numbers that the inputs seed; after the id `broken`, they are NaN.

    `batches` has the number of windows of each call.
    """

    vocab_size: int
    broken: int | None = None
    batches: list[int] = field(default_factory=list)

    def score(self, windows: Sequence[Window], top: int, mask: np.ndarray) -> list[TokenScores]:
        self.batches.append(len(windows))
        return [self._score(window, top, mask) for window in windows]

    def _score(self, window: Window, top: int, mask: np.ndarray) -> TokenScores:
        first = len(window.inputs) - len(window.targets)
        logits = [self.logits(window.inputs[: first + at + 1]) for at in range(len(window.targets))]
        with np.errstate(invalid="ignore"):
            return from_logits(np.array(logits), np.array(window.targets), top, mask)

    def logits(self, context: Sequence[int]) -> np.ndarray:
        """Return the logits after a context: [vocab]."""
        if self.broken in context:
            return np.full(self.vocab_size, np.nan, dtype=np.float32)
        seed = zlib.crc32(np.array(context[-8:], dtype=np.int64).tobytes())
        return np.random.default_rng(seed).normal(0, 3, self.vocab_size).astype(np.float32)
