"""Look inside 3: break a head, and measure the loss."""

import numpy as np


def without_head(weight: np.ndarray, head: int, head_dim: int) -> np.ndarray:
    """Return a copy of c_proj's weight that ignores what a head computes: [n_embd, n_embd] -> [n_embd, n_embd].

    The weight is that of a `Linear`, [out, in]. Its input has the outputs of all heads side by side, `head_dim` numbers
    for each.
    """
    changed = weight.copy()
    changed[:, head * head_dim : (head + 1) * head_dim] = 0
    return changed


def second_copy_loss(logits: np.ndarray, ids: np.ndarray) -> float:
    """Return the mean loss of the second copy, in nats, from logits [2 * length, vocab] and ids [2 * length].

    The loss of a token is the negative logarithm of its probability. The logits at position i are about token i + 1.
    The mean is over the tokens of the second copy but its first, which nothing announces: length - 1 tokens.
    """
    length = len(ids) // 2
    rows, targets = logits[length:-1].astype(np.float64), ids[length + 1 :]  # [length - 1, vocab] and [length - 1]
    shifted = rows - rows.max(axis=-1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return float(-logprobs[np.arange(length - 1), targets].mean())
