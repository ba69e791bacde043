"""What forbids tokens: scores [vocab] and a text so far -> scores [vocab], those of forbidden ids -inf."""

from collections.abc import Sequence

import numpy as np

from max_gpt2.generation.history import History
from max_gpt2.generation.penalties import Processor


def no_repeat_ngram(size: int) -> Processor:
    """Forbid the id that would complete a sequence of `size` ids that the text, its prompt included, has already."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        tokens = history.tokens
        start = tokens[len(tokens) - size + 1 :]  # the size - 1 last ids
        for at in range(len(tokens) - size + 1):
            if tokens[at : at + size - 1] == start:
                scores[tokens[at + size - 1]] = -np.inf
        return scores

    return apply


def bad_words(sequences: Sequence[Sequence[int]]) -> Processor:
    """Forbid the last id of each sequence where the text ends with the ids before it."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        tokens = history.tokens
        for *before, last in sequences:
            if tokens[len(tokens) - len(before) :] == before and len(before) <= len(tokens):
                scores[last] = -np.inf
        return scores

    return apply


def min_new_tokens(count: int, endings: Sequence[int]) -> Processor:
    """Forbid the ids that end a text until `count` ids are written."""

    def apply(scores: np.ndarray, history: History) -> np.ndarray:
        if len(history.written) < count:
            scores[list(endings)] = -np.inf
        return scores

    return apply
