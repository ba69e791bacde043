"""How likely the model finds tokens, before a sampler changes anything."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenLogprob:
    """An id with its natural logarithm of the probability, and the likeliest ids with theirs, the likeliest first."""

    token: int
    logprob: float
    top: dict[int, float]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log(softmax(logits)) over the last axis in float64: [..., vocab] -> [..., vocab]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def token_logprob(logits: np.ndarray, token: int, alternatives: int) -> TokenLogprob:
    """Return how likely logits [vocab] find an id, with as many of the likeliest ids."""
    chances = log_softmax(logits)
    likeliest = _likeliest(chances, alternatives)
    return TokenLogprob(token, float(chances[token]), {int(id_): float(chances[id_]) for id_ in likeliest})


def _likeliest(chances: np.ndarray, count: int) -> np.ndarray:
    """Return the likeliest ids, the likeliest first, of equals the lowest id first; few of the others are sorted."""
    if count < len(chances):
        edge = np.partition(chances, -count)[-count] if count else np.inf
        found = np.flatnonzero(chances >= edge)
    else:
        found = np.arange(len(chances))
    return found[np.argsort(-chances[found], kind="stable")][:count]
