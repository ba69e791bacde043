"""Our own kernels: `kernels/` has them, and says what each computes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from max.dtype import DType
from max.experimental.tensor import Tensor
from max.graph import DeviceRef, TensorType, TensorValue, Value, ops

from max_gpt2.config import Activation
from max_gpt2.model.ops import PagedTexts, Texts

if TYPE_CHECKING:
    from max_gpt2.model.transformer import Block, Conv1D, LayerNorm


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
        which, cache = self.cached(*texts)
        shape = TensorType(DType.float32, [qkv.shape[0], qkv.shape[1] // 3], DeviceRef.CPU())
        return _in_place(f"gpt2.{which}attention", [TensorValue(qkv), *cache, *_values(layer, scale)], [shape])

    def block(self, x: Tensor, block: "Block", kept: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """See `Operations`; the threads stay together over all of it."""
        which, cache = self.cached(*texts)
        n_embd, n_inner = (int(length) for length in block.mlp.c_fc.weight.shape)
        attn, mlp = block.attn, block.mlp
        parts: list[Conv1D | LayerNorm] = [block.ln_1, attn.c_attn, attn.c_proj, block.ln_2, mlp.c_fc, mlp.c_proj]
        weights = [one for part in parts for one in _values(part.weight, part.bias)]
        rest = _values(layer, scale, _number(block.ln_1.eps))
        sizes = ((kept.shape[0], n_embd), (x.shape[0], _room(n_embd, n_inner)))
        types = [TensorType(DType.float32, [rows, width], DeviceRef.CPU()) for rows, width in sizes]
        inputs = [*_values(x, kept), *weights, *cache, *rest]
        return _in_place(f"gpt2.{which}block", inputs, types, activation=block.mlp.c_fc.activation)

    def cached(self, *texts: Tensor) -> tuple[str, list[Value[Any]]]:
        """Return what the kernels for a cache begin with in their names, and what they take of a `Texts`."""
        one = Texts(*texts)
        buffers = [one.keys.__buffervalue__(), one.values.__buffervalue__()]
        return "", [*buffers, *_values(one.offsets, one.lengths, one.slots)]

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `Operations`."""
        return _call("gpt2.logits", [x, weight], x.shape[0], weight.shape[0])


class PagedOperations(MojoOperations):
    """The same with the cache of a server: in pages, which the texts of a batch take as they need them."""

    def cached(self, *texts: Tensor) -> tuple[str, list[Value[Any]]]:
        """Return the same for a `PagedTexts`."""
        one = PagedTexts(*texts)
        return "paged_", [one.blocks.__buffervalue__(), *_values(one.offsets, one.lengths, one.table)]


def _room(n_embd: int, n_inner: int) -> int:
    """Return how many numbers a block keeps for a token between its parts, at most.

    Of each 256 in a row, or what is left of them, a matrix takes up to 272: see `kernels/rows.mojo`.
    """
    matrices, columns = 4, 2 * n_embd + max(4 * n_embd, n_inner)
    return (columns // 256 + matrices) * 272


def _number(value: float) -> Tensor:
    return Tensor(value, dtype=DType.float32)


def _values(*tensors: Tensor) -> list[Value[Any]]:
    return list(map(TensorValue, tensors))


def _in_place(name: str, values: list[Value[Any]], types: list[TensorType], **parameters: str) -> Tensor:
    return Tensor.from_graph_value(ops.inplace_custom(name, DeviceRef.CPU(), values, types, parameters)[0].tensor)


def _call(name: str, inputs: list[Tensor], *shape: Any, **parameters: str) -> Tensor:
    types = [TensorType(DType.float32, shape, DeviceRef.CPU())]
    return Tensor.from_graph_value(ops.custom(name, DeviceRef.CPU(), _values(*inputs), types, parameters)[0].tensor)
