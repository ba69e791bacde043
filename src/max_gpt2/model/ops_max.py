"""The operations implemented by MAX: the baseline for the Mojo kernels, and a fallback where these do not run.

They run one sequence at a time, since their attention needs a rectangular score matrix.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from max.driver import CPU
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.tensor import Tensor
from max.graph import TensorType, TensorValue

from max_gpt2.config import Activation

FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "gelu_erf": functools.partial(F.gelu, approximate="none"),
    "quick_gelu": lambda x: x * F.sigmoid(x * 1.702),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class CacheInputs(NamedTuple):
    """The graph inputs that locate each sequence in the contiguous cache; see `RaggedBatch` and `KVCache`.

    `row_offsets` [batch + 1], `cache_lengths` [batch] and `slots` [batch] are int64. `keys` is
    [n_layer, slots, n_head, head_dim, capacity], `values` is [n_layer, slots, n_head, capacity, head_dim]. `mask` is
    [tokens, total].
    """

    row_offsets: Tensor
    cache_lengths: Tensor
    slots: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor


def mask_type() -> TensorType:
    """Return the type of the mask: when MAX 26.7 fuses attention, it drops some masks made within the graph."""
    return TensorType(DType.float32, ["tokens", "total"], device=CPU())


def embed(ids: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
    """Add token and position embeddings: [tokens] of int64, twice -> [tokens, n_embd]."""
    return F.gather(wte, ids, axis=0) + F.gather(wpe, positions, axis=0)


def linear(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    """Return activation(x @ weight + bias): [tokens, in], [in, out], [out] -> [tokens, out]."""
    return FUNCTIONS[activation](x @ weight + bias)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(var + eps) * weight + bias of each row: [tokens, n_embd] -> [tokens, n_embd]."""
    return F.layer_norm(x, gamma=weight, beta=bias, epsilon=eps)


def attention(qkv: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
    """Apply causal attention: [tokens, 3 * n_embd] -> [tokens, n_embd].

    Stores the new keys and values in the cache of `layer`, a scalar of int64. Attention scores are multiplied by
    `scale`, a scalar of float32. `cache` has the fields of `CacheInputs`.
    """
    inputs = CacheInputs(*cache)
    seq, total = inputs.mask.shape
    _, _, n_head, head_dim, _ = inputs.keys.shape
    query, key, value = (
        part.reshape([seq, n_head, head_dim]).transpose(0, 1) for part in F.split(qkv, [n_head * head_dim] * 3, axis=-1)
    )  # [n_head, seq, head_dim]
    at = [(slice(TensorValue(n), TensorValue(n + 1)), 1) for n in (layer, inputs.slots[0])]
    start = inputs.cache_lengths[0]
    new = (slice(TensorValue(start), TensorValue(start + Tensor.from_dim(seq))), seq)
    every = (slice(0, TensorValue(start + Tensor.from_dim(seq))), total)
    whole = slice(None)
    F.buffer_store_slice(
        inputs.keys, key.transpose(1, 2).reshape([1, 1, n_head, head_dim, seq]), [*at, whole, whole, new]
    )
    F.buffer_store_slice(inputs.values, value.reshape([1, 1, n_head, seq, head_dim]), [*at, whole, new])
    keys = inputs.keys[*at, :, :, every].reshape([n_head, head_dim, total])
    values = inputs.values[*at, :, every].reshape([n_head, total, head_dim])
    weights = F.softmax(query @ keys * scale + inputs.mask)  # [n_head, seq, total]
    return (weights @ values).transpose(0, 1).reshape([seq, n_head * head_dim])


def logits(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight.T: [tokens, n_embd], [vocab, n_embd] -> [tokens, vocab]."""
    return x @ weight.transpose(0, 1)
