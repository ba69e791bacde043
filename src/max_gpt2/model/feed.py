"""What a compiled graph wants besides the new tokens and the cache: the kernels that it was made with decide."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from max_gpt2.model.inputs import NewTokens, causal_mask

#: "mojo" are our own kernels, "builtin" MAX's.
Kernels = Literal["mojo", "builtin"]


@dataclass(frozen=True)
class Feed:
    """How many texts can be computed together, None for as many as there are; and the arrays of `extra_types`."""

    texts_at_once: int | None
    extra: Callable[[NewTokens], list[np.ndarray]]


def _mask(new: NewTokens) -> list[np.ndarray]:
    """Return the mask of the only text: [seq, total]."""
    return [causal_mask(int(new.lengths[0]), len(new.ids))]


FEEDS: dict[Kernels, Feed] = {"mojo": Feed(None, lambda _new: []), "builtin": Feed(1, _mask)}
