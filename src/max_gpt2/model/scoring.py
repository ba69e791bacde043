"""Score given next tokens: their log probabilities and ranks, and the entropy of each distribution."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config
from max_gpt2.model.batch import RaggedBatch
from max_gpt2.model.kv_cache import KVCache
from max_gpt2.model.session import CompiledModel, Run
from max_gpt2.weights import Weights

#: A target that asks for the distribution only: its logprob is NaN and its rank is 0.
NO_TARGET = -1


@dataclass(frozen=True)
class Window:
    """One forward pass: at most `n_positions` input ids, and the ids that follow the last of them.

    `targets[i]` is the id that follows `inputs[len(inputs) - len(targets) + i]`, or NO_TARGET.
    """

    inputs: Sequence[int]
    targets: Sequence[int]


@dataclass(frozen=True)
class TokenScores:
    """The scores of the targets of a window. Logarithms are natural.

    Attributes:
        logprobs: The log probability of each target: [targets] of float64.
        ranks: Its rank, 1 for the most likely id; of equally likely ids the lowest is first: [targets] of int64.
        entropies: The entropy of each distribution: [targets] of float64.
        mask_logprobs: The log probability of the ids in the mask together: [targets] of float64.
        top_ids: The most likely ids, best first: [targets, top] of int64.
        top_logprobs: Their log probabilities: [targets, top] of float64.

    """

    logprobs: np.ndarray
    ranks: np.ndarray
    entropies: np.ndarray
    mask_logprobs: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray


class ScoringModel(Protocol):
    """A compiled model that scores windows."""

    def score(self, windows: Sequence[Window], top: int, mask: np.ndarray) -> list[TokenScores]:
        """Score windows in one call of the graph; `mask` is [vocab] of bool.

        Ids must be below `vocab_size`: the graph does not check them.
        """
        ...


@dataclass(frozen=True)
class FusedScoringModel:
    """A scoring model whose graph never stores the logits. A score is bitwise independent of the other windows.

    `run` takes the inputs of the graph "scoring" of `max_gpt2.model.compile`, except the model; `weights` are used in
    place.
    """

    config: GPT2Config
    run: Run
    weights: Weights

    def score(self, windows: Sequence[Window], top: int, mask: np.ndarray) -> list[TokenScores]:
        """See `ScoringModel`."""
        sequences = dict(enumerate(window.inputs for window in windows))
        counts = [len(window.targets) for window in windows]
        batch = RaggedBatch.of(sequences, np.zeros(len(windows), np.int64), counts)
        targets = np.concatenate([np.asarray(window.targets, dtype=np.int64) for window in windows])
        best = np.zeros(max(1, min(top, self.config.vocab_size)), dtype=np.int64)
        cache = KVCache(replace(self.config, n_layer=1), len(windows), max(map(len, sequences.values())))
        inputs = [*batch.arrays, targets, mask.astype(np.float32), best]
        outputs = self.run(*map(Buffer.from_numpy, inputs), *cache.buffers)
        sums, ranks, top_ids, top_logprobs = (output.to_numpy() for output in outputs)
        logprobs, entropies, mask_logprobs = sums
        columns = logprobs, ranks, entropies, mask_logprobs, top_ids[:, :top], top_logprobs[:, :top]
        cuts = np.cumsum(counts)[:-1]
        return [TokenScores(*one) for one in zip(*(np.split(column, cuts) for column in columns), strict=True)]


@dataclass(frozen=True)
class LogitsScoringModel:
    """A scoring model that computes all logits of a window: for kernels without a scoring operation."""

    model: CompiledModel

    def score(self, windows: Sequence[Window], top: int, mask: np.ndarray) -> list[TokenScores]:
        """See `ScoringModel`."""
        return [self._score(window, top, mask) for window in windows]

    def _score(self, window: Window, top: int, mask: np.ndarray) -> TokenScores:
        first = len(window.inputs) - len(window.targets)
        logits = self.model.logits(np.array([window.inputs]), first)[0]  # [targets, vocab]
        return scores_from_logits(logits, np.array(window.targets), top, mask)


def scores_from_logits(logits: np.ndarray, targets: np.ndarray, top: int, mask: np.ndarray) -> TokenScores:
    """Return the scores of targets under logits, in float64: [targets, vocab], [targets], [vocab] of bool."""
    rows = [
        _score_row(row.astype(np.float64), int(target), top, mask) for row, target in zip(logits, targets, strict=True)
    ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    top_ids = columns[4].reshape(len(rows), top).astype(np.int64)
    return TokenScores(columns[0], columns[1], columns[2], columns[3], top_ids, columns[5].reshape(len(rows), top))


def _score_row(
    logits: np.ndarray, target: int, top: int, mask: np.ndarray
) -> tuple[float, int, float, float, np.ndarray, np.ndarray]:
    """Return the fields of `TokenScores` for one row of logits, [vocab]."""
    shifted = logits - logits.max()
    exponentials = np.exp(shifted)
    total = exponentials.sum()
    log_total = np.log(total)
    entropy = log_total - (exponentials @ np.where(exponentials > 0, shifted, 0)) / total
    with np.errstate(divide="ignore"):
        mask_logprob = np.log(exponentials[mask].sum()) - log_total
    best = np.lexsort((np.arange(len(logits)), -logits))[:top]
    top_logprobs = shifted[best] - log_total
    if target == NO_TARGET:
        return np.nan, 0, entropy, mask_logprob, best, top_logprobs
    above = int(np.count_nonzero(logits > logits[target]) + np.count_nonzero(logits[:target] == logits[target]))
    return shifted[target] - log_total, 1 + above, entropy, mask_logprob, best, top_logprobs
