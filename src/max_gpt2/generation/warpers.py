"""What narrows the choice before a token is drawn: scores [vocab] -> scores [vocab], those of dropped ids -inf."""

import numpy as np


def temperature(scores: np.ndarray, value: float) -> np.ndarray:
    """Divide by the temperature, the largest score being 0: softmax does not change, and nothing overflows."""
    return (scores - scores.max()) / value


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Keep the `k` likeliest, and what ties with the last of them."""
    if k >= len(scores):
        return scores
    return np.where(scores < np.partition(scores, -k)[-k], -np.inf, scores)


def top_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Keep the likeliest ids that have the probability `p` together, one at least: Holtzman et al. 2020.

    As in transformers: of the ids in the order of their probability, the least likely ones go while these have 1 - p
    or less together.
    """
    ascending = np.sort(scores)
    dropped = min(int(np.count_nonzero(softmax(ascending).cumsum() <= 1 - p)), len(scores) - 1)
    edge = ascending[dropped]
    below = scores < edge
    ties = np.flatnonzero(scores == edge)  # of these the first ones go, as if the sort had kept the order of the ids
    return _without(_without(scores, below), ties[: dropped - np.count_nonzero(below)])


def min_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Drop what is less likely than `p` times the likeliest: Nguyen et al. 2024."""
    chances = softmax(scores)
    return _without(scores, chances < p * chances.max())


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities: [vocab] -> [vocab]."""
    heights = np.exp(scores - scores.max())
    return heights / heights.sum()


def _without(scores: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    kept = scores.copy()
    kept[dropped] = -np.inf
    return kept
