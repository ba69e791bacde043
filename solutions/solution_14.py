"""Step 14: text generation, one token at a time."""

from typing import Protocol

import numpy as np

from solutions.pretrained import accepts_tensors


class HasContext(Protocol):
    """A config with the length of the model's context."""

    n_positions: int


class LogitsModel(Protocol):
    """A callable that computes logits: the model of step 13, compiled or not, or anything with the same interface."""

    @property
    def config(self) -> HasContext:
        """Return the config."""
        ...

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] -> [batch, seq, vocab]."""
        ...


@accepts_tensors
def generate_next_token(
    model: LogitsModel, input_ids: np.ndarray, temperature: float, do_sample: bool, random: np.random.Generator
) -> np.ndarray:
    """Choose the token that follows each row: [batch, seq] -> [batch, 1].

    With `do_sample=False`, take the most likely token. Otherwise sample from softmax(logits / temperature): a
    temperature below 1 sharpens the distribution, one above 1 flattens it.
    """
    logits = model(input_ids)[:, -1].astype(np.float64)  # [batch, seq, vocab] -> [batch, vocab]
    if not do_sample:
        return logits.argmax(axis=-1)[:, None]
    scaled = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    cdf = np.exp(scaled).cumsum(axis=-1)  # not normalized: the last value is the sum
    u = random.random((len(logits), 1)) * cdf[:, -1:]
    return (cdf > u).argmax(axis=-1)[:, None]


@accepts_tensors
def generate_tokens(
    model: LogitsModel,
    input_ids: np.ndarray,
    max_new_tokens: int = 10,
    temperature: float = 1.0,
    do_sample: bool = True,
    seed: int | None = None,
) -> np.ndarray:
    """Continue each row by `max_new_tokens`: [batch, seq] -> [batch, seq + max_new_tokens].

    The same `seed` samples the same tokens. Raises ValueError, before the model runs, if the result would not fit into
    the model's context or if `temperature` is not above 0 when sampling.
    """
    rows = np.asarray(input_ids, dtype=np.int64)  # [batch, seq]
    length, context = rows.shape[1] + max_new_tokens, model.config.n_positions
    if length > context:
        raise ValueError(f"{rows.shape[1]} + {max_new_tokens} tokens exceed the context, n_positions={context}")
    if do_sample and temperature <= 0:
        raise ValueError(f"temperature={temperature} is not above 0; for the most likely tokens use do_sample=False")
    random = np.random.default_rng(seed)
    for _ in range(max_new_tokens):
        rows = np.concatenate([rows, generate_next_token(model, rows, temperature, do_sample, random)], axis=1)
    return rows
