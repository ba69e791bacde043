"""What every graph is told besides the ids: where the tokens stand, and which of them a token may see."""

import numpy as np


def positions(batch: int, start: int, seq: int) -> np.ndarray:
    """Return the positions of `seq` tokens after `start` others: [batch, seq] of int64."""
    return np.tile(np.arange(start, start + seq, dtype=np.int64), (batch, 1))


def causal_mask(batch: int, start: int, seq: int) -> np.ndarray:
    """Return what hides the later tokens from each of `seq` tokens after `start` others.

    [batch, 1, seq, start + seq] of float32: 0 where a token may look, -inf where it may not. It is an input: MAX 26.7
    loses some of the masks that a graph makes by itself, when it fuses the attention.
    """
    hidden = np.triu(np.full((seq, start + seq), -np.inf, dtype=np.float32), k=start + 1)
    return np.broadcast_to(hidden, (batch, 1, *hidden.shape)).copy()
