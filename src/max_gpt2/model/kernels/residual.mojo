"""The two halves of a block, each in one go: x + attention(layer_norm(x)) and x + mlp(layer_norm(x)).

The threads stay together over all parts of a half. Each number is computed as by the operations one by one.
`work` is room for what lies between the parts.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from extensibility.managed_tensor_slice import _MutableInputTensor as MutableInputTensor
from max.gpu.host import DeviceContext

from .attention import ATTENTION_PARTS, attention
from .cached import Cache, New, new_tokens, pages_of_layer, slots_of_layer
from .crew import Crew, work_together
from .floats import F
from .layer_norm import layer_norm
from .linear import linear, linear_onto

comptime Matrix = InputTensor[dtype=DType.float32, rank=2, ...]
comptime Line = InputTensor[dtype=DType.float32, rank=1, ...]
comptime Result = OutputTensor[dtype=DType.float32, rank=2, ...]


@extensibility.register("gpt2.residual_mlp")
struct ResidualMLP:
    """[tokens, n_embd] -> [tokens, n_embd], with `work` [tokens, n_embd + n_inner]."""

    @staticmethod
    def execute[
        target: StaticString, activation: StaticString
    ](
        y: Result,
        work: Result,
        x: Matrix,
        norm_weight: Line,
        norm_bias: Line,
        fc_weight: Matrix,
        fc_bias: Line,
        proj_weight: Matrix,
        proj_bias: Line,
        eps: Scalar[DType.float32],
        ctx: DeviceContext,
    ) raises:
        var M = x.dim_size(0)
        var N = x.dim_size(1)
        var inner = fc_weight.dim_size(1)
        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var normed = work.unsafe_ptr()
        var hidden = normed.unsafe_offset(M * N)
        var gamma = norm_weight.unsafe_ptr()
        var beta = norm_bias.unsafe_ptr()
        var fc = fc_weight.unsafe_ptr()
        var fc_more = fc_bias.unsafe_ptr()
        var proj = proj_weight.unsafe_ptr()
        var proj_more = proj_bias.unsafe_ptr()

        def half(crew: Crew) {var}:
            layer_norm(crew, 0, x_at, gamma, beta, normed, M, N, eps)
            linear[activation](crew, 1, normed, fc, fc_more, hidden, M, N, inner)
            linear_onto(crew, 2, hidden, proj, proj_more, x_at, y_at, M, inner, N)

        work_together[3](half)


@extensibility.register("gpt2.residual_attention")
struct ResidualAttention:
    """[tokens, n_embd] -> [tokens, n_embd], with `work` [tokens, 5 * n_embd] and the cache of `Attention`."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: Result,
        work: Result,
        x: Matrix,
        norm_weight: Line,
        norm_bias: Line,
        attn_weight: Matrix,
        attn_bias: Line,
        proj_weight: Matrix,
        proj_bias: Line,
        keys: MutableInputTensor[dtype=DType.float32, rank=5, ...],
        values: MutableInputTensor[dtype=DType.float32, rank=5, ...],
        offsets: InputTensor[dtype=DType.int64, rank=1, ...],
        lengths: InputTensor[dtype=DType.int64, rank=1, ...],
        slots: InputTensor[dtype=DType.int64, rank=1, ...],
        layer: Scalar[DType.int64],
        scale: Scalar[DType.float32],
        eps: Scalar[DType.float32],
        ctx: DeviceContext,
    ) raises:
        var cache = slots_of_layer(keys, values, slots, Int(layer))
        var new = new_tokens(offsets, lengths)
        _attention_half(
            y, work, x, norm_weight, norm_bias, attn_weight, attn_bias, proj_weight, proj_bias, cache, new, scale, eps
        )


@extensibility.register("gpt2.residual_paged_attention")
struct ResidualPagedAttention:
    """The same with the cache of `PagedAttention`."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: Result,
        work: Result,
        x: Matrix,
        norm_weight: Line,
        norm_bias: Line,
        attn_weight: Matrix,
        attn_bias: Line,
        proj_weight: Matrix,
        proj_bias: Line,
        blocks: MutableInputTensor[dtype=DType.float32, rank=6, ...],
        offsets: InputTensor[dtype=DType.int64, rank=1, ...],
        lengths: InputTensor[dtype=DType.int64, rank=1, ...],
        table: InputTensor[dtype=DType.int64, rank=2, ...],
        layer: Scalar[DType.int64],
        scale: Scalar[DType.float32],
        eps: Scalar[DType.float32],
        ctx: DeviceContext,
    ) raises:
        var cache = pages_of_layer(blocks, table, Int(layer))
        var new = new_tokens(offsets, lengths)
        _attention_half(
            y, work, x, norm_weight, norm_bias, attn_weight, attn_bias, proj_weight, proj_bias, cache, new, scale, eps
        )


@always_inline
def _attention_half(
    y: Result,
    work: Result,
    x: Matrix,
    norm_weight: Line,
    norm_bias: Line,
    attn_weight: Matrix,
    attn_bias: Line,
    proj_weight: Matrix,
    proj_bias: Line,
    cache: Cache,
    new: New,
    scale: Scalar[F],
    eps: Scalar[F],
):
    var M = x.dim_size(0)
    var N = x.dim_size(1)
    var x_at = x.unsafe_ptr()
    var y_at = y.unsafe_ptr()
    var normed = work.unsafe_ptr()
    var qkv = normed.unsafe_offset(M * N)
    var mixed = qkv.unsafe_offset(M * 3 * N)
    var gamma = norm_weight.unsafe_ptr()
    var beta = norm_bias.unsafe_ptr()
    var attn = attn_weight.unsafe_ptr()
    var attn_more = attn_bias.unsafe_ptr()
    var proj = proj_weight.unsafe_ptr()
    var proj_more = proj_bias.unsafe_ptr()

    def half(crew: Crew) {var}:
        layer_norm(crew, 0, x_at, gamma, beta, normed, M, N, eps)
        linear["none"](crew, 1, normed, attn, attn_more, qkv, M, N, 3 * N)
        attention(crew, 2, qkv, cache, new, mixed, scale)
        linear_onto(crew, 2 + ATTENTION_PARTS, mixed, proj, proj_more, x_at, y_at, M, N, N)

    work_together[3 + ATTENTION_PARTS](half)
