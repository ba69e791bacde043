"""What a model predicted at each position of a text, in the measures of the page: surprisal, rank and entropy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

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
    """Return the measures of a text from the output of the final layer norm: [seq, n_embd]."""
    seq, following = len(ids), np.array([*ids[1:], 0])
    surprisal, rank = np.full(seq + 1, np.nan), np.zeros(seq + 1, dtype=np.int64)
    entropy, top_ids, top_probabilities = np.empty(seq), [], []
    for chunk in _chunks(seq):
        logits = stages.logits(ln_f[chunk])
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
        best = most_likely(logits, min(TOP, logits.shape[1]))
        top_ids.append(best)
        top_probabilities.append(exponentials[rows[:, None], best] / total[:, None])
    return Predictions(surprisal[:seq], rank[:seq], entropy, np.concatenate(top_ids), np.concatenate(top_probabilities))


def most_likely(logits: np.ndarray, count: int) -> np.ndarray:
    """Return the ids with the largest logits, in falling order: [rows, vocab] -> [rows, count]."""
    found = np.argpartition(-logits, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(logits, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _chunks(seq: int) -> Iterator[slice]:
    for start in range(0, seq, _CHUNK):
        yield slice(start, min(start + _CHUNK, seq))
