"""Step 14: writing text, one token at a time."""

from typing import Protocol

import numpy as np


class HasContext(Protocol):
    """A config that knows how many tokens the model can look at."""

    n_positions: int


class LogitsModel(Protocol):
    """What text can be written with: the compiled model of step 13, or anything else that is called like it."""

    @property
    def config(self) -> HasContext:
        """Its config."""
        ...

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] -> [batch, seq, vocab]."""
        ...


def generate_next_token(
    model: LogitsModel, input_ids: np.ndarray, temperature: float, do_sample: bool, random: np.random.Generator
) -> np.ndarray:
    """Choose the token that follows each row: [batch, seq] -> [batch, 1].

    Greedy takes the likeliest. Sampling draws from softmax(logits / temperature): below 1 the model plays safe, above
    1 it takes risks.
    """
    # TODO: replace the line below; `make hint STEP=14` helps.
    raise NotImplementedError("generate_next_token")


def generate_tokens(
    model: LogitsModel,
    input_ids: np.ndarray,
    max_new_tokens: int = 10,
    temperature: float = 1.0,
    do_sample: bool = True,
    seed: int | None = None,
) -> np.ndarray:
    """Let the model continue each row by `max_new_tokens`: [batch, seq] -> [batch, seq + max_new_tokens].

    The same `seed` draws the same tokens. Raises ValueError, before anything runs, when the text would not fit into
    the model's context or when `temperature` is not above 0.
    """
    # TODO: replace the line below; `make hint STEP=14` helps.
    raise NotImplementedError("generate_tokens")
