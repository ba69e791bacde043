"""Our own kernels: `kernels/` has them, and says what each computes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from max.dtype import DType
from max.experimental.tensor import Tensor
from max.graph import BufferValue, DeviceRef, TensorType, TensorValue, Value, ops

from max_gpt2.model.activations import Activation
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
        small = Tensor(eps, dtype=DType.float32)
        return _call("gpt2.layer_norm", [x, weight, bias, small], x.shape[0], x.shape[1])

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *rest: Tensor) -> Tensor:
        """See `Operations`."""
        texts = Texts(*rest)
        buffers = [texts.keys.__buffervalue__(), texts.values.__buffervalue__()]
        where = [texts.offsets, texts.lengths, texts.slots]
        return _attention("gpt2.attention", qkv, buffers, [*where, layer, scale])

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `Operations`."""
        return _call("gpt2.logits", [x, weight], x.shape[0], weight.shape[0])


class PagedOperations(MojoOperations):
    """The same with the cache of a server: in pages, which the texts of a batch take as they need them."""

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *rest: Tensor) -> Tensor:
        """See `Operations`; the rest is that of `PagedTexts`."""
        texts = PagedTexts(*rest)
        where = [texts.offsets, texts.lengths, texts.table]
        return _attention("gpt2.paged_attention", qkv, [texts.blocks.__buffervalue__()], [*where, layer, scale])


def _attention(name: str, qkv: Tensor, buffers: list[BufferValue], rest: list[Tensor]) -> Tensor:
    values: list[Value[Any]] = [TensorValue(qkv), *buffers, *map(TensorValue, rest)]
    shape = TensorType(DType.float32, [qkv.shape[0], qkv.shape[1] // 3], DeviceRef.CPU())
    return Tensor.from_graph_value(ops.inplace_custom(name, DeviceRef.CPU(), values, [shape])[0].tensor)


def _call(name: str, inputs: list[Tensor], *shape: Any, **parameters: str) -> Tensor:
    values, out = list(map(TensorValue, inputs)), TensorType(DType.float32, shape, DeviceRef.CPU())
    return Tensor.from_graph_value(ops.custom(name, DeviceRef.CPU(), values, [out], parameters)[0].tensor)
