"""Surprisal, rank, entropy and the most likely tokens at each position of a text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.generation.logits import most_likely
from max_gpt2.model.stages import Stages

#: The number of most likely tokens that the page shows for each position.
TOP = 5
#: Positions whose logits are computed together.
_CHUNK = 64


@dataclass(frozen=True)
class Predictions:
    """The measures of a text. Surprisal and entropy are in bits.

    Attributes:
        surprisal: That of each token given those before it: [seq]; NaN for the first.
        rank: That of each token, 1 for the most likely: [seq] of int64; 0 for the first.
        entropy: That of the distribution of the token after each: [seq].
        top_ids: The most likely tokens after each: [seq, TOP] of int64.
        top_probabilities: Their probabilities: [seq, TOP].

    """

    surprisal: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray
    top_ids: np.ndarray
    top_probabilities: np.ndarray


def predictions(stages: Stages, ln_f: np.ndarray, ids: Sequence[int]) -> Predictions:
    """Return the measures of a text from the output of the final layer norm, [seq, n_embd].

    Raises RequestError if a logit is NaN.
    """
    seq, following = len(ids), np.array([*ids[1:], 0])
    surprisal, rank = np.full(seq + 1, np.nan), np.zeros(seq + 1, dtype=np.int64)
    entropy, top_ids, top_probabilities = np.empty(seq), [], []
    for chunk in _chunks(seq):
        logits = stages.logits(ln_f[chunk])
        if np.isnan(logits).any():
            raise RequestError("The logits are NaN, so there is nothing to show. Check the weights: max-gpt2 info.")
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        total = exponentials.sum(axis=1, dtype=np.float64)
        rows, own = np.arange(len(logits)), following[chunk]
        # The logarithm of the sum in float64; the exponentials, at most 1, are exact to seven digits.
        log_total = np.log(total) + logits.max(axis=1)
        surprisal[chunk.start + 1 : chunk.stop + 1] = (log_total - logits[rows, own]) / np.log(2)
        rank[chunk.start + 1 : chunk.stop + 1] = 1 + (logits > logits[rows, own][:, None]).sum(axis=1)
        # H = log(sum) - sum(p * logit)
        mean = np.einsum("tv,tv->t", exponentials, logits, dtype=np.float64) / total
        entropy[chunk] = (log_total - mean) / np.log(2)
        best = np.stack([most_likely(row, min(TOP, len(row))) for row in logits])
        top_ids.append(best)
        top_probabilities.append(exponentials[rows[:, None], best] / total[:, None])
    return Predictions(surprisal[:seq], rank[:seq], entropy, np.concatenate(top_ids), np.concatenate(top_probabilities))


def _chunks(seq: int) -> Iterator[slice]:
    for start in range(0, seq, _CHUNK):
        yield slice(start, min(start + _CHUNK, seq))
