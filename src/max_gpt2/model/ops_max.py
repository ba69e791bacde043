"""The operations implemented by MAX: the baseline for the Mojo kernels, and a fallback where these do not run."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from max.driver import CPU
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.tensor import Tensor
from max.graph import TensorType, TensorValue

from max_gpt2.config import Activation
from max_gpt2.model.ops import BlockWeights, CacheInputs, LayerWeights

FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "gelu_erf": functools.partial(F.gelu, approximate="none"),
    "quick_gelu": lambda x: x * F.sigmoid(x * 1.702),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class MaxOps:
    """The operations of MAX, for one sequence at a time: their attention needs a rectangular score matrix."""

    extensions: Sequence[Path] = ()
    #: The mask is an input: when MAX 26.7 fuses attention, it drops some masks that are computed within the graph.
    extra_types: Sequence[TensorType] = (TensorType(DType.float32, ["tokens", "total"], device=CPU()),)

    def embed(self, ids: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
        """See `Ops`."""
        return F.gather(wte, ids, axis=0) + F.gather(wpe, positions, axis=0)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
        """See `Ops`."""
        return FUNCTIONS[activation](x @ weight + bias)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """See `Ops`."""
        return F.layer_norm(x, gamma=weight, beta=bias, epsilon=eps)

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """See `Ops`."""
        inputs = CacheInputs(*cache)
        mask = _required(inputs.extra)  # [seq, total]
        seq, total = mask.shape
        _, _, n_head, head_dim, _ = inputs.keys.shape
        query, key, value = (
            part.reshape([seq, n_head, head_dim]).transpose(0, 1)
            for part in F.split(qkv, [n_head * head_dim] * 3, axis=-1)
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
        weights = F.softmax(query @ keys * scale + mask)  # [n_head, seq, total]
        return (weights @ values).transpose(0, 1).reshape([seq, n_head * head_dim])

    def block(
        self, x: Tensor, weights: BlockWeights, indices: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor
    ) -> Tensor:
        """See `Ops`."""
        qkv = self._linear(self._layer_norm(x, weights.ln_1, weights.eps), weights.c_attn)  # [tokens, 3 * n_embd]
        x = x + self._linear(self.attention(qkv, layer, scale, *cache), weights.attn_proj)
        if indices.shape != x.shape[:1]:
            x = F.gather(x, indices, axis=0)  # [rows, n_embd]
        hidden = self._linear(self._layer_norm(x, weights.ln_2, weights.eps), weights.c_fc, weights.activation)
        return x + self._linear(hidden, weights.mlp_proj)

    def _linear(self, x: Tensor, weights: LayerWeights, activation: Activation = "none") -> Tensor:
        return self.linear(x, weights.weight, weights.bias, activation)

    def _layer_norm(self, x: Tensor, weights: LayerWeights, eps: float) -> Tensor:
        return self.layer_norm(x, weights.weight, weights.bias, eps)

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `Ops`."""
        return x @ weight.transpose(0, 1)


def _required(mask: Tensor | None) -> Tensor:
    if mask is None:
        raise ValueError("the graph has no mask")
    return mask
