"""Measures of two models on a text: divergence, agreement and perplexity of predictions, and errors of arrays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from max_gpt2.checkpoint.layout import CONV1D, LM_HEAD, WTE
from max_gpt2.generation.logits import log_softmax
from max_gpt2.weights.quantise import float32
from max_gpt2.weights.types import Weight

#: Rows of logits whose softmax is computed at a time: [64, vocab_size] of float64 is 26 MB for gpt2.
_ROWS = 64


@dataclass
class PredictionSums:
    """Sums over the predicted tokens of a text. Divergences and log-likelihoods are in nats.

    `divergence` is the Kullback-Leibler divergence of the model's predictions from the reference's, `agreeing` the
    number of tokens for which both have the same most likely token, and `nll` the model's negative log-likelihood.
    """

    count: int = 0
    divergence: float = 0.0
    max_divergence: float = 0.0
    agreeing: int = 0
    nll: float = 0.0

    def add(self, reference: np.ndarray, logits: np.ndarray, targets: Sequence[int]) -> None:
        """Add the predictions of `targets`: two arrays of logits, [len(targets), vocab_size]."""
        for start in range(0, len(targets), _ROWS):
            rows = slice(start, start + _ROWS)
            expected, found = log_softmax(reference[rows]), log_softmax(logits[rows])
            divergences = (np.exp(expected) * (expected - found)).sum(axis=1)
            self.count += len(divergences)
            self.divergence += float(divergences.sum())
            self.max_divergence = max(self.max_divergence, float(divergences.max()))
            self.agreeing += int((expected.argmax(axis=1) == found.argmax(axis=1)).sum())
            self.nll -= float(found[np.arange(len(found)), targets[rows]].sum())

    @property
    def mean_divergence(self) -> float:
        """The mean Kullback-Leibler divergence in nats."""
        return self.divergence / self.count

    @property
    def agreement(self) -> float:
        """The fraction of tokens, 0 to 1, with the same most likely token."""
        return self.agreeing / self.count

    @property
    def perplexity(self) -> float:
        """The perplexity per token."""
        return float(np.exp(self.nll / self.count))


@dataclass
class ErrorSums:
    """The sums of squares of a difference and of its reference."""

    error: float = 0.0
    reference: float = 0.0

    def add(self, reference: np.ndarray, values: np.ndarray) -> None:
        """Add two arrays of the same shape."""
        difference = values - reference
        self.error += float(np.vdot(difference, difference))
        self.reference += float(np.vdot(reference, reference))

    @property
    def relative(self) -> float:
        """The norm of the difference relative to that of the reference."""
        return float(np.sqrt(self.error / self.reference)) if self.reference else 0.0


def weight_errors(
    reference: Mapping[str, Weight], weights: Mapping[str, Weight], n_layer: int
) -> tuple[list[float], float]:
    """Return the relative error of the linear layers' weights of each layer, and that of all matrices together.

    Both are norms of differences relative to norms of the reference. All matrices include the embeddings and the head.
    """
    layers, total = [], ErrorSums()
    for layer in range(n_layer):
        sums = ErrorSums()
        for name in (f"transformer.h.{layer}.{part}" for part in CONV1D):
            sums.add(float32(reference[name]), float32(weights[name]))
        layers.append(sums.relative)
        total.error, total.reference = total.error + sums.error, total.reference + sums.reference
    for name in _tables(reference):
        total.add(float32(reference[name]), float32(weights[name]))
    return layers, total.relative


def _tables(weights: Mapping[str, Weight]) -> Iterable[str]:
    """Return the names of the embeddings and of an untied head."""
    return (WTE,) if weights[WTE] is weights[LM_HEAD] else (WTE, LM_HEAD)
