"""What makes tokens more or less likely: scores [vocab] and a text so far -> scores [vocab]."""

from collections.abc import Callable, Mapping

import numpy as np

from max_gpt2.generation.history import History

Processor = Callable[[np.ndarray, History], np.ndarray]


def logit_bias(bias: Mapping[int, float]) -> Processor:
    """Add to the scores of some ids, as OpenAI documents `logit_bias`; -100 practically forbids one."""
    ids, amounts = np.array(list(bias), dtype=np.int64), np.array(list(bias.values()))

    def apply(scores: np.ndarray, _history: History) -> np.ndarray:
        scores[ids] += amounts
        return scores

    return apply


def repetition_penalty(penalty: float) -> Processor:
    """Divide the positive scores of ids that are in the prompt or were written, and multiply the negative ones.

    Keskar et al. 2019, section 4.1, in transformers' form: once for each distinct id.
    """

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        ids = np.unique(history.tokens)
        seen = scores[ids]
        scores[ids] = np.where(seen < 0, seen * penalty, seen / penalty)
        return scores

    return apply


def presence_and_frequency(presence: float, frequency: float) -> Processor:
    """Subtract from the scores of ids that were written, once and for each time; the prompt does not count: OpenAI."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        ids, counts = np.unique(np.array(history.written, dtype=np.int64), return_counts=True)
        scores[ids] -= presence + frequency * counts
        return scores

    return apply
