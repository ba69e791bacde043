"""What several exercises are made of: the config of the checks, and the weights of the parts of a block."""

import importlib
from typing import Any

from tutorial.sizes import CONFIG, SIZES, Arrays, numbers


def config(**changes: Any) -> Any:
    """Return the config of the checks, made with the GPT2Config that the steps use."""
    return importlib.import_module("steps.step_01").GPT2Config(**CONFIG | changes)


def prefixed(prefix: str, weights: Arrays) -> Arrays:
    """Return weights by their names in what holds them: "ln_1." and "weight" make "ln_1.weight"."""
    return {prefix + name: one for name, one in weights.items()}


def norm_weights(seed: int) -> Arrays:
    """Return the two parameters of a LayerNorm, each [n_embd]."""
    return {"weight": numbers(seed, ("n_embd",), 0.3, 1.0), "bias": numbers(seed + 1, ("n_embd",), 0.3)}


def linear_weights(seed: int, out: str, into: str) -> Arrays:
    """Return the parameters of a Linear: `weight` [out, in] and `bias` [out]."""
    return {"weight": numbers(seed, (out, into), 0.3), "bias": numbers(seed + 1, (out,), 0.3)}


def mlp_weights(seed: int) -> Arrays:
    """Return the parameters of an MLP."""
    return prefixed("c_fc.", linear_weights(seed, "n_inner", "n_embd")) | prefixed(
        "c_proj.", linear_weights(seed + 2, "n_embd", "n_inner")
    )


def attention_weights(seed: int) -> Arrays:
    """Return the parameters of an attention."""
    return prefixed("c_attn.", linear_weights(seed, "3 * n_embd", "n_embd")) | prefixed(
        "c_proj.", linear_weights(seed + 2, "n_embd", "n_embd")
    )


def block_weights(seed: int) -> Arrays:
    """Return the parameters of a block."""
    return (
        prefixed("ln_1.", norm_weights(seed))
        | prefixed("attn.", attention_weights(seed + 2))
        | prefixed("ln_2.", norm_weights(seed + 6))
        | prefixed("mlp.", mlp_weights(seed + 8))
    )


def transformer_weights(seed: int) -> Arrays:
    """Return the parameters of the whole stack."""
    weights = {
        "wte.weight": numbers(seed, ("vocab", "n_embd")),
        "wpe.weight": numbers(seed + 1, ("n_positions", "n_embd")),
    }
    for layer in range(SIZES["n_layer"]):
        weights |= prefixed(f"h.{layer}.", block_weights(seed + 20 * (layer + 1)))
    return weights | prefixed("ln_f.", norm_weights(seed + 2))
