"""What is new of some texts, as the graph wants it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from max.pipelines.context import TextContext


@dataclass(frozen=True)
class Batch:
    """The fields are those of `max_gpt2.model.batch.RaggedBatch`, without the slots."""

    ids: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    kept: np.ndarray
    cuts: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[TextContext]) -> "Batch":
        """Keep the logits after the last new token of each text, or after all where the prompt's are asked for."""
        counts = np.array([text.tokens.active_length for text in texts], dtype=np.int64)
        lengths = np.array([text.tokens.processed_length for text in texts], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ids = np.concatenate([text.tokens.active for text in texts]).astype(np.int64, copy=False)
        positions = np.arange(offsets[-1]) + np.repeat(lengths - offsets[:-1], counts)
        kept = np.where([keeps_all(text) for text in texts], counts, 1)
        first = np.repeat(offsets[1:] - kept, kept)
        cuts = np.cumsum(kept)
        within = np.arange(cuts[-1]) - np.repeat(cuts - kept, kept)
        return cls(ids, positions, offsets, lengths, first + within, cuts[:-1])

    def split(self, logits: np.ndarray) -> list[np.ndarray]:
        """Return the logits of each text, [kept, vocab]."""
        return np.split(logits, self.cuts)


def keeps_all(text: TextContext) -> bool:
    """Say whether the probabilities of the tokens of a prompt are asked for, and are being computed."""
    return bool(text.log_probabilities) and text.log_probabilities_echo and text.tokens.generated_length == 0
