"""GPT-2 in numpy, for the exercises of the chapter "Look inside": attention patterns and logits of one text."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Observed(NamedTuple):
    """The outputs of a model for one text: patterns [n_layer, n_head, seq, seq] and logits [seq, vocab]."""

    patterns: np.ndarray
    logits: np.ndarray


def run(weights: Mapping[str, np.ndarray], n_head: int, epsilon: float, ids: np.ndarray) -> Observed:
    """Run a GPT-2 on ids [seq]; the weights are those of the tutorial's model, with [out, in] for a linear layer."""
    named = {name: value.astype(np.float64) for name, value in weights.items()}
    seq = len(ids)
    x = named["transformer.wte.weight"][ids] + named["transformer.wpe.weight"][:seq]
    patterns = []
    for layer in range(1 + max(int(name.split(".")[2]) for name in named if ".h." in name)):
        block = {
            name.removeprefix(f"transformer.h.{layer}."): value
            for name, value in named.items()
            if name.startswith(f"transformer.h.{layer}.")
        }
        qkv = linear(layer_norm(x, block, "ln_1", epsilon), block, "attn.c_attn")
        query, key, value = (part.reshape(seq, n_head, -1).swapaxes(0, 1) for part in np.split(qkv, 3, axis=1))
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
        pattern = softmax(np.where(np.tri(seq, dtype=bool), scores, -np.inf))
        patterns.append(pattern)
        x = x + linear((pattern @ value).swapaxes(0, 1).reshape(seq, -1), block, "attn.c_proj")
        hidden = linear(layer_norm(x, block, "ln_2", epsilon), block, "mlp.c_fc")
        x = x + linear(gelu(hidden), block, "mlp.c_proj")
    final = {name.removeprefix("transformer."): value for name, value in named.items()}
    return Observed(np.stack(patterns), layer_norm(x, final, "ln_f", epsilon) @ named["lm_head.weight"].T)


def linear(x: np.ndarray, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Apply a linear layer: [seq, in] -> [seq, out]."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x: np.ndarray, weights: Mapping[str, np.ndarray], name: str, epsilon: float) -> np.ndarray:
    """Normalize the last axis: [seq, n_embd] -> [seq, n_embd]."""
    centered = x - x.mean(axis=-1, keepdims=True)
    scaled = centered / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    """Apply the tanh form of GELU elementwise."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
