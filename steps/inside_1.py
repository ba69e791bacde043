"""Look inside 1: find the head that attends to the token before."""

import numpy as np


def previous_token_scores(patterns: np.ndarray) -> np.ndarray:
    """Return how much each head attends to the token before: [n_layer, n_head, seq, seq] -> [n_layer, n_head].

    The score is the mean of pattern[i, i - 1], over the positions i from 1 on; row i of a pattern is the query.
    """
    # TODO: replace the line below.
    raise NotImplementedError("previous_token_scores")


def strongest_head(scores: np.ndarray) -> tuple[int, int]:
    """Return the layer and the head with the largest score: [n_layer, n_head] -> (layer, head), both from 0."""
    # TODO: replace the line below.
    raise NotImplementedError("strongest_head")
