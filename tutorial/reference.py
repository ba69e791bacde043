"""GPT-2 in PyTorch, part by part; `wrong` names the known mistakes to make on purpose.

The correct result comes from PyTorch's own function where there is one. Everything is computed in float64. The weight
of a Linear is [out, in].
"""

import math

import numpy as np
import torch
from torch.nn import functional

from tutorial.exercise import NO_MISTAKES, Mistakes
from tutorial.inputs import EPSILON, SIZES, Arrays

Weights = dict[str, torch.Tensor]
HEADS = SIZES["n_head"]
MASK = frozenset({"no mask"})


def as_tensors(arrays: Arrays) -> Weights:
    """Return arrays as tensors, floating-point ones as float64."""
    return {
        name: torch.from_numpy(value.astype(np.float64) if value.dtype.kind == "f" else value)
        for name, value in arrays.items()
    }


def as_arrays(tensors: Weights) -> Arrays:
    """Return tensors as arrays, floating-point ones as float32."""
    return {
        name: (value.float() if value.is_floating_point() else value).contiguous().numpy()
        for name, value in tensors.items()
    }


def submodule(weights: Weights, prefix: str) -> Weights:
    """Return the weights of a submodule, under their names within it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def linear(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    """Return x @ weight.T + bias."""
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def causal_mask(seq: int, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Return 0 where a query may attend to a key and -inf elsewhere: [seq, seq]."""
    hidden = torch.ones(seq, seq, dtype=torch.bool).triu(
        0 if "self hidden" in wrong else 2 if "next seen" in wrong else 1
    )
    if "upside down" in wrong:
        hidden = hidden.T
    if "inverse" in wrong:
        hidden = ~hidden
    if "all hidden" in wrong:
        hidden = torch.ones_like(hidden)
    if "nothing hidden" in wrong:
        hidden = torch.zeros_like(hidden)
    if "zeros and ones" in wrong:
        return (~hidden).double()
    value = float("inf") if "sign" in wrong else -1.0 if "small" in wrong else float("-inf")
    return torch.zeros(seq, seq, dtype=torch.float64).masked_fill(hidden, value)


def layer_norm(x: torch.Tensor, weights: Weights, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Normalize the last axis: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
    weight, bias = weights["weight"], weights["bias"]
    epsilon = 1e-5 if "epsilon" in wrong else EPSILON
    if not wrong - {"epsilon"}:
        return functional.layer_norm(x, (x.shape[-1],), weight, bias, epsilon)
    axis = -2 if "axis" in wrong else -1
    centered = x if "mean" in wrong else x - x.mean(axis, keepdim=True)
    variance = (centered**2).sum(axis, keepdim=True) / (x.shape[axis] - ("unbiased" in wrong))
    if "epsilon outside" in wrong:
        scaled = centered / (variance.sqrt() + epsilon)
    else:
        scaled = centered / ((variance + epsilon) if "square root" in wrong else (variance + epsilon).sqrt())
    scaled = scaled if "weight" in wrong else scaled * weight
    return scaled if "bias" in wrong else scaled + bias


def gelu(x: torch.Tensor, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Apply the tanh form of GELU elementwise."""
    if "no activation" in wrong:
        return x
    if "relu" in wrong:
        return functional.relu(x)
    if "sigmoid" in wrong:
        return x * torch.sigmoid(1.702 * x)
    if "silu" in wrong:
        return functional.silu(x)
    return functional.gelu(x, approximate="none" if "erf" in wrong else "tanh")


def mlp(x: torch.Tensor, weights: Weights, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Apply Linear, GELU and Linear: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
    hidden = linear(x, weights, "c_fc")
    if "gelu last" in wrong:
        return gelu(linear(hidden, weights, "c_proj"))
    output = linear(gelu(hidden, wrong), weights, "c_proj")
    return gelu(output) if "gelu twice" in wrong else output


def qkv(
    x: torch.Tensor, weights: Weights, wrong: Mistakes = NO_MISTAKES
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return query, key and value, each [batch, seq, n_embd]."""
    if "no bias" in wrong:
        weights = weights | {"c_attn.bias": torch.zeros_like(weights["c_attn.bias"])}
    joined = linear(x, weights, "c_attn")
    if "every third" in wrong:
        query, key, value = joined.unflatten(-1, (-1, 3)).unbind(-1)
    elif "by heads" in wrong:
        query, key, value = (one.flatten(-2) for one in joined.unflatten(-1, (HEADS, -1)).chunk(3, dim=-1))
    else:
        query, key, value = joined.chunk(3, dim=-1)
    for order in ("kqv", "vkq", "qvk", "kvq", "vqk"):
        if order in wrong:
            parts = {"q": query, "k": key, "v": value}
            return parts[order[0]], parts[order[1]], parts[order[2]]
    return (query, query, query) if "all the same" in wrong else (query, key, value)


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, wrong: Mistakes = NO_MISTAKES
) -> torch.Tensor:
    """Apply causal attention: three of [..., seq, head_dim] -> [..., seq, head_dim]."""
    if not wrong:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    seq, head_dim = query.shape[-2:]
    scores = query @ key.mT
    if "swapped" in wrong:
        scores = scores.mT
    if "head_dim" in wrong:
        scores = scores / head_dim
    elif "multiplied" in wrong:
        scores = scores * math.sqrt(head_dim)
    elif "seq" in wrong:
        scores = scores / math.sqrt(seq)
    elif "no scale" not in wrong:
        scores = scores / math.sqrt(head_dim)
    mask = causal_mask(seq)
    if "subtracted" in wrong:
        scores = scores - mask
    elif not wrong & {"no mask", "mask late"}:
        scores = scores + (causal_mask(seq, frozenset({"self hidden"})) if "self hidden" in wrong else mask)
    weights = scores if "no softmax" in wrong else scores.softmax(-2 if "axis" in wrong else -1)
    if "mask late" in wrong:
        weights = weights + mask
    return weights @ value


def split_heads(x: torch.Tensor, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Split n_embd into heads: [batch, seq, n_embd] -> [batch, n_head, seq, head_dim]."""
    batch, seq, width = x.shape
    if "split" in wrong:
        return x.reshape(batch, HEADS, seq, width // HEADS)
    if "interleaved" in wrong:
        return x.reshape(batch, seq, width // HEADS, HEADS).permute(0, 3, 1, 2)
    return x.reshape(batch, seq, HEADS, width // HEADS).transpose(1, 2)


def merge_heads(x: torch.Tensor, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Undo `split_heads`: [batch, n_head, seq, head_dim] -> [batch, seq, n_embd]."""
    batch, heads, seq, head_dim = x.shape
    if "merge" in wrong:
        return x.reshape(batch, seq, heads * head_dim)
    if "merge interleaved" in wrong:
        return x.permute(0, 2, 3, 1).reshape(batch, seq, heads * head_dim)
    return x.transpose(1, 2).reshape(batch, seq, heads * head_dim)


def multi_head(x: torch.Tensor, weights: Weights, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Apply multi-head attention: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
    query, key, value = qkv(x, weights)
    if "one head" in wrong:
        merged = attention(query, key, value, wrong & MASK)
    else:
        query, key, value = (split_heads(one, wrong) for one in (query, key, value))
        merged = merge_heads(attention(query, key, value, wrong & MASK), wrong)
    if "no c_proj" in wrong:
        return merged
    if "transposed" in wrong:
        return merged @ weights["c_proj.weight"] + weights["c_proj.bias"]
    return linear(merged, weights, "c_proj")


def block(x: torch.Tensor, weights: Weights, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Apply one transformer block: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
    epsilon = wrong & {"epsilon"}
    norms = {name: submodule(weights, f"{name}.") for name in ("ln_1", "ln_2")}
    if "norms swapped" in wrong:
        norms = {"ln_1": norms["ln_2"], "ln_2": norms["ln_1"]}
    if "ln_1 twice" in wrong:
        norms["ln_2"] = norms["ln_1"]

    def attn(x: torch.Tensor) -> torch.Tensor:
        return multi_head(x, submodule(weights, "attn."), wrong & MASK)

    def feed_forward(x: torch.Tensor) -> torch.Tensor:
        return mlp(x, submodule(weights, "mlp."))

    if "parallel" in wrong:
        return x + attn(layer_norm(x, norms["ln_1"], epsilon)) + feed_forward(layer_norm(x, norms["ln_2"], epsilon))
    parts = [(norms["ln_1"], attn, "attention"), (norms["ln_2"], feed_forward, "mlp")]
    for norm, layer, name in reversed(parts) if "mlp first" in wrong else parts:
        if f"no {name}" in wrong:
            continue
        if "post-norm" in wrong:
            x = layer_norm(x + layer(x), norm, epsilon)
            continue
        read = x if "no norms" in wrong else layer_norm(x, norm, epsilon)
        x = layer(read) if f"no residual {name}" in wrong else x + layer(read)
    return x


def transformer(ids: torch.Tensor, weights: Weights, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Return the last hidden states: [batch, seq] -> [batch, seq, n_embd]."""
    x = weights["wte.weight"][ids]
    if "no positions" not in wrong:
        x = x + weights["wpe.weight"][torch.arange(ids.shape[1]) + ("from 1" in wrong)]
    layers = list(range(SIZES["n_layer"]))
    if "no blocks" in wrong:
        layers = []
    elif "one block" in wrong:
        layers = [0]
    elif "one less" in wrong:
        layers = layers[:-1]
    elif "same block" in wrong:
        layers = [0] * len(layers)
    elif "reversed" in wrong:
        layers = layers[::-1]
    for layer in layers:
        x = block(x, submodule(weights, f"h.{layer}."), wrong & MASK)
        if "ln_f in the loop" in wrong:
            x = layer_norm(x, submodule(weights, "ln_f."))
    if wrong & {"no ln_f", "ln_f in the loop"}:
        return x
    return layer_norm(x, submodule(weights, "ln_f."), wrong & {"epsilon"})


def language_model(ids: torch.Tensor, weights: Weights, wrong: Mistakes = NO_MISTAKES) -> torch.Tensor:
    """Return the logits: [batch, seq] -> [batch, seq, vocab]."""
    hidden = transformer(ids, submodule(weights, "transformer."), wrong & MASK)
    if "no head" in wrong:
        return hidden
    if "last only" in wrong:
        hidden = hidden[:, -1]
    table = weights["transformer.wte.weight"] if "wte" in wrong else weights["lm_head.weight"]
    logits = hidden @ table.T
    if "softmax" in wrong:
        return logits.softmax(-1)
    return logits.log_softmax(-1) if "log softmax" in wrong else logits
