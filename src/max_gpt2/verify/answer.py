"""What each of two sides is asked about a prompt."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Answer:
    """What one side computes for a prompt of seq tokens.

    `states` are the hidden states by the names of `max_gpt2.model.state_names`, each [1, seq, n_embd]; `logits` are
    [1, seq, vocab]; `continuation` is what it writes greedily after the prompt.
    """

    states: dict[str, np.ndarray]
    logits: np.ndarray
    continuation: list[int]


@dataclass(frozen=True)
class Answers:
    """What one side computes: its rows of `wte` [vocab, n_embd], and an answer to each prompt."""

    wte: np.ndarray
    prompts: list[Answer]


class Side(Protocol):
    """A model that can be asked."""

    def wte(self) -> np.ndarray:
        """Return what is looked up for every id: [vocab, n_embd]."""
        ...

    def answer(self, tokens: list[int], max_new_tokens: int) -> Answer:
        """Compute everything for a prompt and continue it greedily by `max_new_tokens`."""
        ...
