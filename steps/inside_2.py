"""Look inside 2: find an induction head on a repeated random sequence."""

import numpy as np


def repeated_sequence(length: int, vocab_size: int, seed: int) -> np.ndarray:
    """Return `length` different random ids, and the same ids again: [2 * length] of int64."""
    # TODO: replace the line below.
    raise NotImplementedError("repeated_sequence")


def induction_scores(patterns: np.ndarray) -> np.ndarray:
    """Return how much each head attends to the token after the first copy of the present one.

    The patterns are those of a sequence that repeats once: [n_layer, n_head, 2 * length, 2 * length]. The score is the
    mean over the queries i in the second copy of pattern[i, i - length + 1]: [n_layer, n_head].
    Source: Olsson et al. 2022, "In-context Learning and Induction Heads".
    """
    # TODO: replace the line below.
    raise NotImplementedError("induction_scores")
