"""The operations implemented by custom Mojo kernels; their sources are in `kernels/`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from max.dtype import DType
from max.experimental.tensor import Tensor
from max.graph import DeviceRef, TensorType, TensorValue, Value, ops

from max_gpt2.config import Activation
from max_gpt2.model.ops import BlockWeights, CacheInputs, PagedCacheInputs


class MojoOps:
    """Custom kernels. The result for a token is bitwise independent of the other tokens of the batch."""

    extensions: Sequence[Path] = (Path(__file__).parent / "kernels",)
    extra_types: Sequence[TensorType] = ()

    def embed(self, ids: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
        """See `Ops`."""
        return _call("gpt2.embed", [ids, positions, wte, wpe], ids.shape[0], wte.shape[1])

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
        """See `Ops`."""
        return _call("gpt2.linear", [x, weight, bias], x.shape[0], weight.shape[1], activation=activation)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """See `Ops`."""
        return _call("gpt2.layer_norm", [x, weight, bias, _scalar(eps)], x.shape[0], x.shape[1])

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """See `Ops`."""
        prefix, inputs = self.cache_inputs(*cache)
        shape = TensorType(DType.float32, [qkv.shape[0], qkv.shape[1] // 3], DeviceRef.CPU())
        return _in_place(f"gpt2.{prefix}attention", [TensorValue(qkv), *inputs, *_values(layer, scale)], [shape])

    def block(
        self, x: Tensor, weights: BlockWeights, indices: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor
    ) -> Tensor:
        """See `Ops`. One kernel computes the whole block with one team of threads."""
        prefix, cached = self.cache_inputs(*cache)
        linears = weights.c_attn, weights.attn_proj, weights.c_fc, weights.mlp_proj
        norms = weights.ln_1, weights.ln_2
        matrices = [linear.weight for linear in linears]
        # The order of `BlockVectors` in kernels/block.mojo.
        vectors = [tensor for norm in norms for tensor in norm] + [linear.bias for linear in linears]
        inputs = [*_values(x, indices, *matrices, *vectors), *cached, *_values(layer, scale, _scalar(weights.eps))]
        shape = TensorType(DType.float32, [indices.shape[0], x.shape[1]], DeviceRef.CPU())
        return _in_place(f"gpt2.{prefix}block", inputs, [shape], activation=weights.activation)

    def cache_inputs(self, *cache: Tensor) -> tuple[str, list[Value[Any]]]:
        """Return the prefix of the kernels' names for this kind of cache, and their cache arguments."""
        one = CacheInputs(*cache)
        buffers = [one.keys.__buffervalue__(), one.values.__buffervalue__()]
        return "", [*buffers, *_values(one.row_offsets, one.cache_lengths, one.slots)]

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `Ops`."""
        return _call("gpt2.logits", [x, weight], x.shape[0], weight.shape[0])

    def token_scores(
        self, x: Tensor, weight: Tensor, targets: Tensor, mask: Tensor, best: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score the ids that follow, without storing the logits; `kernels/token_scores.mojo` defines the results.

        [rows, n_embd], [vocab, n_embd], [rows] of int64, [vocab], [top] of int64 -> [3, rows] of float64, [rows] of
        int64, and [rows, top] of int64 and of float64.
        """
        rows, top = targets.shape[0], best.shape[0]
        shapes: list[tuple[DType, list[Any]]] = [
            (DType.float64, [3, rows]),
            (DType.int64, [rows]),
            (DType.int64, [rows, top]),
            (DType.float64, [rows, top]),
        ]
        types = [TensorType(dtype, shape, DeviceRef.CPU()) for dtype, shape in shapes]
        inputs = _values(x, weight, targets, mask, best)
        results = ops.custom("gpt2.token_scores", DeviceRef.CPU(), inputs, types)
        sums, ranks, top_ids, top_logprobs = (Tensor.from_graph_value(result.tensor) for result in results)
        return sums, ranks, top_ids, top_logprobs


class PagedMojoOps(MojoOps):
    """The same kernels with a server's paged cache; the `cache` arguments are the fields of `PagedCacheInputs`."""

    def cache_inputs(self, *cache: Tensor) -> tuple[str, list[Value[Any]]]:
        """Return the prefix and the cache arguments for a paged cache."""
        one = PagedCacheInputs(*cache)
        return "paged_", [one.blocks.__buffervalue__(), *_values(one.row_offsets, one.cache_lengths, one.lookup_table)]


def _scalar(value: float) -> Tensor:
    return Tensor(value, dtype=DType.float32)


def _values(*tensors: Tensor) -> list[Value[Any]]:
    return list(map(TensorValue, tensors))


def _in_place(name: str, values: list[Value[Any]], types: list[TensorType], **parameters: str) -> Tensor:
    return Tensor.from_graph_value(ops.inplace_custom(name, DeviceRef.CPU(), values, types, parameters)[0].tensor)


def _call(name: str, inputs: list[Tensor], *shape: Any, **parameters: str) -> Tensor:
    types = [TensorType(DType.float32, shape, DeviceRef.CPU())]
    return Tensor.from_graph_value(ops.custom(name, DeviceRef.CPU(), _values(*inputs), types, parameters)[0].tensor)
