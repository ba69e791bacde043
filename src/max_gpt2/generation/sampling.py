"""Choosing the next token. A sampler is a value: a function from logits to an id, free of the model."""

from collections.abc import Callable

import numpy as np

from max_gpt2.errors import RequestError

Sampler = Callable[[np.ndarray], int]


def make_sampler(temperature: float, top_k: int, seed: int) -> Sampler:
    """Return a function from logits [vocab] to the id chosen.

    Temperature 0 takes the likeliest token, the lowest id of several. Above 0 the token is drawn from
    softmax(logits / temperature), among the `top_k` likeliest when `top_k` is not 0; tokens that tie with the last of
    these stay too, as in transformers. The same seed draws the same tokens.

    Raises RequestError when temperature, top_k or seed is negative, or temperature is not finite.
    """
    if not 0 <= temperature < float("inf"):
        raise RequestError(f"temperature {temperature} is not a number from 0 on. Use 0 for the likeliest tokens.")
    if top_k < 0:
        raise RequestError(f"top_k {top_k} is negative. Use 0 to choose among all tokens.")
    if seed < 0:
        raise RequestError(f"seed {seed} is negative. Use a whole number from 0 on.")
    if temperature == 0:
        return lambda logits: int(logits.argmax())
    dice = np.random.default_rng(seed)

    def sample(logits: np.ndarray) -> int:
        heights = weights(logits, temperature, top_k).cumsum()
        return int((heights > dice.random() * heights[-1]).argmax())

    return sample


def weights(logits: np.ndarray, temperature: float, top_k: int) -> np.ndarray:
    """Return how likely each token is to be drawn, up to a factor: [vocab] -> [vocab]."""
    scores = logits.astype(np.float64)
    scores = np.exp((scores - scores.max()) / temperature)
    if 0 < top_k < len(scores):
        smallest_kept = np.partition(scores, -top_k)[-top_k]
        scores[scores < smallest_kept] = 0.0
    return scores
