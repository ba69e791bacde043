"""MAX's own operations: what the others are held against, and the way out should they fail on some machine."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from max.driver import CPU
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.tensor import Tensor
from max.graph import TensorType, TensorValue

from max_gpt2.config import Activation
from max_gpt2.model.ops import Texts

if TYPE_CHECKING:
    from max_gpt2.model.transformer import Block

FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "gelu_erf": functools.partial(F.gelu, approximate="none"),
    "quick_gelu": lambda x: x * F.sigmoid(x * 1.702),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class BuiltinOperations:
    """One text at a time, since MAX's attention wants a rectangle of scores."""

    extensions: Sequence[Path] = ()
    #: The mask is an input: MAX 26.7 loses some of the masks that a graph makes by itself, when it fuses the attention.
    extra_types: Sequence[TensorType] = (TensorType(DType.float32, ["tokens", "total"], device=CPU()),)

    def embed(self, ids: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
        """See `Operations`."""
        return F.gather(wte, ids, axis=0) + F.gather(wpe, positions, axis=0)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
        """See `Operations`."""
        return FUNCTIONS[activation](x @ weight + bias)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """See `Operations`."""
        return F.layer_norm(x, gamma=weight, beta=bias, epsilon=eps)

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *rest: Tensor) -> Tensor:
        """See `Operations`."""
        texts = Texts(*rest)
        mask = _given(texts.extra)
        seq, total = mask.shape
        _, _, n_head, head_dim, _ = texts.keys.shape
        query, key, value = (
            part.reshape([seq, n_head, head_dim]).transpose(0, 1)
            for part in F.split(qkv, [n_head * head_dim] * 3, axis=-1)
        )  # [n_head, seq, head_dim]
        at = [(slice(TensorValue(n), TensorValue(n + 1)), 1) for n in (layer, texts.slots[0])]
        start = texts.lengths[0]
        new = (slice(TensorValue(start), TensorValue(start + Tensor.from_dim(seq))), seq)
        every = (slice(0, TensorValue(start + Tensor.from_dim(seq))), total)
        whole = slice(None)
        F.buffer_store_slice(
            texts.keys, key.transpose(1, 2).reshape([1, 1, n_head, head_dim, seq]), [*at, whole, whole, new]
        )
        F.buffer_store_slice(texts.values, value.reshape([1, 1, n_head, seq, head_dim]), [*at, whole, new])
        keys = texts.keys[*at, :, :, every].reshape([n_head, head_dim, total])
        values = texts.values[*at, :, every].reshape([n_head, total, head_dim])
        weights = F.softmax(query @ keys * scale + mask)  # [n_head, seq, total]
        return (weights @ values).transpose(0, 1).reshape([seq, n_head * head_dim])

    def block(self, x: Tensor, block: "Block", kept: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """See `Operations`."""
        attended = x + block.attn(block.ln_1(x), layer, scale, *texts)
        return block.feed(attended if kept.shape == x.shape[:1] else F.gather(attended, kept, axis=0))[-1]

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `Operations`."""
        return x @ weight.transpose(0, 1)


def _given(mask: Tensor | None) -> Tensor:
    if mask is None:
        raise ValueError("the graph has no mask")
    return mask
