"""An independent oracle: transformers' log_softmax of explicitly cut windows, and units found letter by letter."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from fixtures.checkpoints import reference_model


def context_start(position: int, window: int, stride: int) -> int:
    """Return the first id of the context of the id at `position` of a sequence."""
    return 0 if position <= window else -(-(position - window) // stride) * stride


def distributions(sequences: Sequence[Sequence[int]], window: int, stride: int) -> list[np.ndarray]:
    """Return PyTorch's log probabilities before each id but the first, and after the last one: [seq, vocab] each.

    The model is the tiny checkpoint.
    """
    model = reference_model()
    rows = [np.empty((len(sequence), model.config.vocab_size)) for sequence in sequences]
    by_size: dict[int, list[tuple[int, int, list[int]]]] = defaultdict(list)
    for index, sequence in enumerate(sequences):
        positions: dict[int, list[int]] = defaultdict(list)
        for position in range(1, len(sequence) + 1):
            positions[context_start(position, window, stride)].append(position)
        for start, some in positions.items():
            by_size[some[-1] - start].append((index, start, some))
    for windows in by_size.values():
        for at in range(0, len(windows), 64):
            batch = windows[at : at + 64]
            ids = torch.tensor([sequences[index][start : some[-1]] for index, start, some in batch])
            with torch.no_grad():
                logprobs = torch.log_softmax(model(ids).logits.double(), dim=-1).numpy()
            for (index, start, some), found in zip(batch, logprobs, strict=True):
                rows[index][np.array(some) - 1] = found[np.array(some) - start - 1]
    return rows


def logprobs_of(sequence: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """Return the log probability of each id but the first, given `distributions`: [seq - 1]."""
    return rows[np.arange(len(sequence) - 1), np.array(sequence[1:], dtype=np.int64)]


def units_of_tokens(text: str, lengths: Sequence[int], bounds: Sequence[tuple[int, int]]) -> list[int]:
    """Return the unit of each token, given the tokens' lengths in bytes and the characters of each unit.

    Tokens of whitespace belong to the next unit, at the end of the text to the last one.
    """
    letters = [index for index, letter in enumerate(text) for _ in letter.encode()]
    unit_of = {index: unit for unit, (start, end) in enumerate(bounds) for index in range(start, end)}
    found: list[int | None] = []
    at = 0
    for length in lengths:
        visible = [index for index in letters[at : at + length] if not text[index].isspace()]
        found.append(unit_of[visible[0]] if visible else None)
        at += length
    following = max((unit for unit in found if unit is not None), default=0)
    units = []
    for unit in reversed(found):
        following = following if unit is None else unit
        units.append(following)
    return units[::-1]
