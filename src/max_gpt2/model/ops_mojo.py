"""The operations implemented by the Mojo kernels in `kernels/`, as nodes of a graph.

The result for a token is bitwise independent of the other tokens of the batch. A weight is passed as bytes, with a
tensor whose first element is the number of its type; `kernels/weights.mojo` has the types and their layouts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from max.dtype import DType
from max.graph import DeviceRef, TensorType, TensorValue, Value, ops

#: The folder of the kernels.
KERNELS = Path(__file__).parent / "kernels"

Values = Sequence[Any]


class Typed(NamedTuple):
    """A weight as bytes, [bytes] or [rows, row_bytes] of an embedding, and int64 numbers that begin with its type."""

    data: TensorValue
    type: TensorValue


def extensions() -> list[Path]:
    """Return the folders of Mojo files that a graph needs."""
    return [KERNELS]


def embed(ids: TensorValue, positions: TensorValue, wte: Typed, wpe: TensorValue) -> TensorValue:
    """Add token and position embeddings: [tokens] of int64, twice -> [tokens, n_embd]."""
    return _call("gpt2.embed", [ids, positions, *wte, wpe], ids.shape[0], wpe.shape[1])


def linear(x: TensorValue, weight: Typed, bias: TensorValue) -> TensorValue:
    """Return activation(x @ weight + bias): [tokens, in], [in, out], [out] -> [tokens, out].

    The type of the weight is followed by the number of the activation function: `weight.type` is [2].
    """
    return _call("gpt2.linear", [x, *weight, bias], x.shape[0], bias.shape[0])


def layer_norm(x: TensorValue, weight: TensorValue, bias: TensorValue, eps: TensorValue) -> TensorValue:
    """Return (x - mean) / sqrt(var + eps) * weight + bias of each row: [tokens, n_embd] -> [tokens, n_embd]."""
    return _call("gpt2.layer_norm", [x, weight, bias, eps], *x.shape)


def attention(qkv: TensorValue, layer: Value[Any], scale: Value[Any], batch: Values, cache: Values) -> TensorValue:
    """Apply causal attention: [tokens, 3 * n_embd] -> [tokens, n_embd].

    Stores the new keys and values in the cache of `layer`, a scalar of int64. Attention scores are multiplied by
    `scale`, a scalar of float32. `batch` and `cache` are those of `transformer`.
    """
    shape = TensorType(DType.float32, [qkv.shape[0], qkv.shape[1] // 3], DeviceRef.CPU())
    return _in_place(f"gpt2.{_prefix(cache)}attention", [qkv, *cache, *batch, layer, scale], shape)


def transformer(tokens: Values, model: Value[Any], ln_f: TensorValue, batch: Values, cache: Values) -> TensorValue:
    """Apply the transformer: token ids to final hidden states, [rows, n_embd].

    `tokens` are the ids [tokens], their positions [tokens] and `logits_indices` [rows]; `model` is the table of
    `max_gpt2.model.table` and `ln_f` the weight [n_embd] of the final layer norm. `batch` is `row_offsets` [batch + 1],
    `cache_lengths` [batch], and `slots` [batch] for a contiguous cache, `lookup_table` [batch, pages] for a paged one.
    `cache` is keys and values, or blocks: `kernels/kv_cache.mojo` has their shapes. All others are int64.
    """
    shape = TensorType(DType.float32, [tokens[2].shape[0], ln_f.shape[0]], DeviceRef.CPU())
    inputs = [*tokens, model, ln_f, *cache, *batch]
    return _in_place(f"gpt2.{_prefix(cache)}transformer", inputs, shape)


def logits(x: TensorValue, weight: Typed) -> TensorValue:
    """Return x @ weight.T: [tokens, n_embd], [vocab, n_embd] -> [tokens, vocab]."""
    return _call("gpt2.logits", [x, *weight], x.shape[0], weight.data.shape[0])


def token_scores(x: TensorValue, weight: Typed, targets: TensorValue, mask: TensorValue, best: TensorValue) -> Values:
    """Score the ids that follow, without storing the logits; `kernels/token_scores.mojo` defines the results.

    [rows, n_embd], [vocab, n_embd], [rows] of int64, [vocab], [top] of int64 -> [3, rows] of float64, [rows] of int64,
    and [rows, top] of int64 and of float64.
    """
    rows, top = targets.shape[0], best.shape[0]
    shapes: list[tuple[DType, list[Any]]] = [
        (DType.float64, [3, rows]),
        (DType.int64, [rows]),
        (DType.int64, [rows, top]),
        (DType.float64, [rows, top]),
    ]
    types = [TensorType(dtype, shape, DeviceRef.CPU()) for dtype, shape in shapes]
    return ops.custom("gpt2.token_scores", DeviceRef.CPU(), [x, *weight, targets, mask, best], types)


def _prefix(cache: Values) -> str:
    """Return the prefix of the kernels' names: a contiguous cache has keys and values, a paged one has blocks."""
    return "" if len(cache) > 1 else "paged_"


def _in_place(name: str, inputs: Values, shape: TensorType) -> TensorValue:
    return ops.inplace_custom(name, DeviceRef.CPU(), list(inputs), [shape])[0].tensor


def _call(name: str, inputs: Values, *shape: Any) -> TensorValue:
    types = [TensorType(DType.float32, shape, DeviceRef.CPU())]
    return ops.custom(name, DeviceRef.CPU(), list(inputs), types)[0].tensor
