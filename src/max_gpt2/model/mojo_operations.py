"""Our own kernels: `kernels/` has them, and says what each computes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from max.dtype import DType
from max.experimental.tensor import Tensor
from max.graph import DeviceRef, TensorType, TensorValue, Value, ops

from max_gpt2.model.activations import Activation
from max_gpt2.model.layers import Conv1D, LayerNorm
from max_gpt2.model.operations import PagedTexts, Texts


class MojoOperations:
    """Kernels that read each weight once, where it lies. A token's numbers do not depend on what else is computed."""

    extensions: Sequence[Path] = (Path(__file__).parent / "kernels",)
    extra_types: Sequence[TensorType] = ()

    def embed(self, ids: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
        """See `Operations`."""
        return _call("gpt2.embed", [ids, positions, wte, wpe], ids.shape[0], wte.shape[1])

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
        """See `Operations`."""
        return _call("gpt2.linear", [x, weight, bias], x.shape[0], weight.shape[1], activation=activation)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """See `Operations`."""
        return _call("gpt2.layer_norm", [x, weight, bias, _number(eps)], x.shape[0], x.shape[1])

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """See `Operations`."""
        name, cache = self.cached(*texts)
        shape = TensorType(DType.float32, [qkv.shape[0], qkv.shape[1] // 3], DeviceRef.CPU())
        return _in_place(f"gpt2.{name}", [TensorValue(qkv), *cache, *_values(layer, scale)], [shape])

    def residual_attention(
        self, x: Tensor, norm: LayerNorm, first: Conv1D, last: Conv1D, layer: Tensor, scale: Tensor, *texts: Tensor
    ) -> Tensor:
        """See `Operations`."""
        name, cache = self.cached(*texts)
        weights = _values(x, norm.weight, norm.bias, first.weight, first.bias, last.weight, last.bias)
        rest = _values(layer, scale, _number(norm.eps))
        return _in_place(f"gpt2.residual_{name}", [*weights, *cache, *rest], _results(x, 5 * x.shape[1]))

    def residual_mlp(self, x: Tensor, norm: LayerNorm, first: Conv1D, last: Conv1D) -> Tensor:
        """See `Operations`."""
        weights = [x, norm.weight, norm.bias, first.weight, first.bias, last.weight, last.bias, _number(norm.eps)]
        work = x.shape[1] + first.weight.shape[1]
        return _custom("gpt2.residual_mlp", weights, _results(x, work), activation=first.activation)

    def cached(self, *texts: Tensor) -> tuple[str, list[Value[Any]]]:
        """Return the attention that goes with a cache, and what it takes of a `Texts`."""
        one = Texts(*texts)
        buffers = [one.keys.__buffervalue__(), one.values.__buffervalue__()]
        return "attention", [*buffers, *_values(one.offsets, one.lengths, one.slots)]

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `Operations`."""
        return _call("gpt2.logits", [x, weight], x.shape[0], weight.shape[0])


class PagedOperations(MojoOperations):
    """The same with the cache of a server: in pages, which the texts of a batch take as they need them."""

    def cached(self, *texts: Tensor) -> tuple[str, list[Value[Any]]]:
        """Return the same for a `PagedTexts`."""
        one = PagedTexts(*texts)
        return "paged_attention", [one.blocks.__buffervalue__(), *_values(one.offsets, one.lengths, one.table)]


def _number(value: float) -> Tensor:
    return Tensor(value, dtype=DType.float32)


def _values(*tensors: Tensor) -> list[Value[Any]]:
    return list(map(TensorValue, tensors))


def _results(x: Tensor, work: Any) -> list[TensorType]:
    """Return the types of what replaces x, and of the room that an operation needs besides."""
    return [TensorType(DType.float32, [x.shape[0], width], DeviceRef.CPU()) for width in (x.shape[1], work)]


def _in_place(name: str, values: list[Value[Any]], types: list[TensorType]) -> Tensor:
    return Tensor.from_graph_value(ops.inplace_custom(name, DeviceRef.CPU(), values, types)[0].tensor)


def _call(name: str, inputs: list[Tensor], *shape: Any, **parameters: str) -> Tensor:
    return _custom(name, inputs, [TensorType(DType.float32, shape, DeviceRef.CPU())], **parameters)


def _custom(name: str, inputs: list[Tensor], types: list[TensorType], **parameters: str) -> Tensor:
    return Tensor.from_graph_value(ops.custom(name, DeviceRef.CPU(), _values(*inputs), types, parameters)[0].tensor)
