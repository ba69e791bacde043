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
    likeliest = np.argsort(-chances, kind="stable")[:alternatives]
    return TokenLogprob(token, float(chances[token]), {int(id_): float(chances[id_]) for id_ in likeliest})
