"""Sizes, inputs and weights of the checks.

No two sizes are equal, so that every axis is recognizable by its length and no transposed axis goes unnoticed.
"""

import importlib
import re
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Dims = tuple[str, ...]

BATCH = 2
SEQ = 7
SIZES = {
    "n_layer": 3,
    "n_head": 4,
    "head_dim": 5,
    "n_positions": 19,
    "n_embd": 20,
    "vocab": 37,
    "n_inner": 44,
    "3 * n_embd": 60,
}
LENGTHS = SIZES | {"batch": BATCH, "seq": SEQ}
#: Large enough to make a difference in the outputs.
EPSILON = 3e-2
#: The config of the checks.
CONFIG = {
    "vocab_size": SIZES["vocab"],
    "n_positions": SIZES["n_positions"],
    "n_embd": SIZES["n_embd"],
    "n_layer": SIZES["n_layer"],
    "n_head": SIZES["n_head"],
    "n_inner": SIZES["n_inner"],
    "layer_norm_epsilon": EPSILON,
}


def shape_of(dims: Dims) -> tuple[int, ...]:
    """Return the lengths of named axes: ("seq", "n_embd") -> (7, 20)."""
    return tuple(LENGTHS[name] for name in dims)


def format_shape(shape: tuple[int, ...]) -> str:
    """Return a shape with the name of each known length: "[batch=2, seq=7, 21]"."""
    names = {length: name for name, length in LENGTHS.items()}
    cells = [f"{names[length]}={length}" if length in names else str(length) for length in shape]
    return f"[{', '.join(cells)}]"


def name_sizes(message: str) -> str:
    """Add the name of each known size to a message of MAX: "60" -> "60 (3 * n_embd)"; skip numbers below 10."""
    names = {length: name for name, length in SIZES.items() if length > 9}
    return re.sub(
        r"(?<![\w.])(\d+)(?![\w.])",
        lambda match: f"{match[0]} ({names[int(match[0])]})" if int(match[0]) in names else match[0],
        message,
    )


def random_array(seed: int, dims: Dims, scale: float = 1.0, mean: float = 0.0) -> np.ndarray:
    """Return normally distributed float32 values in the shape of `dims`; the same seed returns the same values."""
    drawn = np.random.default_rng(seed).standard_normal(shape_of(dims)) * scale + mean
    return drawn.astype(np.float32)


def token_ids() -> np.ndarray:
    """Return two rows of token ids, without repetition within a row: [batch, seq] of int64."""
    return np.stack([np.random.default_rng(row).permutation(SIZES["vocab"])[:SEQ] for row in range(BATCH)])


def config(**changes: Any) -> Any:
    """Return the config of the checks, an instance of the `GPT2Config` that the steps use."""
    return importlib.import_module("steps.step_01").GPT2Config(**CONFIG | changes)


def prefixed(prefix: str, weights: Arrays) -> Arrays:
    """Return weights under their names in a parent module: "ln_1." and "weight" -> "ln_1.weight"."""
    return {prefix + name: array for name, array in weights.items()}


def norm_weights(seed: int) -> Arrays:
    """Return the parameters of a LayerNorm: `weight` and `bias`, each [n_embd]."""
    return {"weight": random_array(seed, ("n_embd",), 0.3, 1.0), "bias": random_array(seed + 1, ("n_embd",), 0.3)}


def linear_weights(seed: int, out_features: str, in_features: str) -> Arrays:
    """Return the parameters of a Linear: `weight` [out, in] and `bias` [out]."""
    weight = random_array(seed, (out_features, in_features), 0.3)
    return {"weight": weight, "bias": random_array(seed + 1, (out_features,), 0.3)}


def mlp_weights(seed: int) -> Arrays:
    """Return the parameters of an MLP."""
    return prefixed("c_fc.", linear_weights(seed, "n_inner", "n_embd")) | prefixed(
        "c_proj.", linear_weights(seed + 2, "n_embd", "n_inner")
    )


def attention_weights(seed: int) -> Arrays:
    """Return the parameters of a multi-head attention."""
    return prefixed("c_attn.", linear_weights(seed, "3 * n_embd", "n_embd")) | prefixed(
        "c_proj.", linear_weights(seed + 2, "n_embd", "n_embd")
    )


def block_weights(seed: int) -> Arrays:
    """Return the parameters of a transformer block."""
    return (
        prefixed("ln_1.", norm_weights(seed))
        | prefixed("attn.", attention_weights(seed + 2))
        | prefixed("ln_2.", norm_weights(seed + 6))
        | prefixed("mlp.", mlp_weights(seed + 8))
    )


def transformer_weights(seed: int) -> Arrays:
    """Return the parameters of the transformer: embeddings, blocks and final LayerNorm."""
    weights = {
        "wte.weight": random_array(seed, ("vocab", "n_embd")),
        "wpe.weight": random_array(seed + 1, ("n_positions", "n_embd")),
    }
    for layer in range(SIZES["n_layer"]):
        weights |= prefixed(f"h.{layer}.", block_weights(seed + 20 * (layer + 1)))
    return weights | prefixed("ln_f.", norm_weights(seed + 2))
