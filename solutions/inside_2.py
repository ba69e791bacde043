"""Look inside 2: find an induction head on a repeated random sequence."""

import numpy as np


def repeated_sequence(length: int, vocab_size: int, seed: int) -> np.ndarray:
    """Return `length` different random ids, and the same ids again: [2 * length] of int64."""
    once = np.random.default_rng(seed).permutation(vocab_size)[:length]
    return np.concatenate([once, once])


def induction_scores(patterns: np.ndarray) -> np.ndarray:
    """Return how much each head attends to the token after the first copy of the present one.

    The patterns are those of a sequence that repeats once: [n_layer, n_head, 2 * length, 2 * length]. The score is the
    mean over the queries i in the second copy of pattern[i, i - length + 1]: [n_layer, n_head].
    Source: Olsson et al. 2022, "In-context Learning and Induction Heads".
    """
    length = patterns.shape[-1] // 2
    queries = np.arange(length, 2 * length)
    return patterns[..., queries, queries - length + 1].mean(axis=-1)  # [n_layer, n_head, length], then mean
