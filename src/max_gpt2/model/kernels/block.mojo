"""A block in one go: x + attention(layer_norm(x)), and to that the mlp(layer_norm()) of it.

The threads stay together over all parts. Each number is computed as by the operations one by one. `work` is room for
what lies between the parts.
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
#: What a crew counts: a normalization and two linear layers for each half, and the attention.
comptime PARTS = 6 + ATTENTION_PARTS


@extensibility.register("gpt2.block")
struct Block:
    """[tokens, n_embd] -> [tokens, n_embd], with the cache of `Attention`.

    `work` is [tokens, 2 * n_embd + max(4 * n_embd, n_inner)].
    """

    @staticmethod
    def execute[
        target: StaticString, activation: StaticString
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
        second_weight: Line,
        second_bias: Line,
        fc_weight: Matrix,
        fc_bias: Line,
        out_weight: Matrix,
        out_bias: Line,
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
        _block[activation](
            y,
            work,
            x,
            norm_weight,
            norm_bias,
            attn_weight,
            attn_bias,
            proj_weight,
            proj_bias,
            second_weight,
            second_bias,
            fc_weight,
            fc_bias,
            out_weight,
            out_bias,
            cache,
            new_tokens(offsets, lengths),
            scale,
            eps,
        )


@extensibility.register("gpt2.paged_block")
struct PagedBlock:
    """The same with the cache of `PagedAttention`."""

    @staticmethod
    def execute[
        target: StaticString, activation: StaticString
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
        second_weight: Line,
        second_bias: Line,
        fc_weight: Matrix,
        fc_bias: Line,
        out_weight: Matrix,
        out_bias: Line,
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
        _block[activation](
            y,
            work,
            x,
            norm_weight,
            norm_bias,
            attn_weight,
            attn_bias,
            proj_weight,
            proj_bias,
            second_weight,
            second_bias,
            fc_weight,
            fc_bias,
            out_weight,
            out_bias,
            cache,
            new_tokens(offsets, lengths),
            scale,
            eps,
        )


@always_inline
def _block[
    activation: StaticString
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
    second_weight: Line,
    second_bias: Line,
    fc_weight: Matrix,
    fc_bias: Line,
    out_weight: Matrix,
    out_bias: Line,
    cache: Cache,
    new: New,
    scale: Scalar[F],
    eps: Scalar[F],
):
    var M = x.dim_size(0)
    var N = x.dim_size(1)
    var inner = fc_weight.dim_size(1)
    var x_at = x.unsafe_ptr()
    var y_at = y.unsafe_ptr()
    var between = work.unsafe_ptr()
    var normed = between.unsafe_offset(M * N)
    var qkv = normed.unsafe_offset(M * N)
    var mixed = qkv.unsafe_offset(M * 3 * N)
    var hidden = qkv  # which nobody needs any more
    var gamma = norm_weight.unsafe_ptr()
    var beta = norm_bias.unsafe_ptr()
    var attn = attn_weight.unsafe_ptr()
    var attn_more = attn_bias.unsafe_ptr()
    var proj = proj_weight.unsafe_ptr()
    var proj_more = proj_bias.unsafe_ptr()
    var second_gamma = second_weight.unsafe_ptr()
    var second_beta = second_bias.unsafe_ptr()
    var fc = fc_weight.unsafe_ptr()
    var fc_more = fc_bias.unsafe_ptr()
    var out = out_weight.unsafe_ptr()
    var out_more = out_bias.unsafe_ptr()

    def parts(crew: Crew) {var}:
        layer_norm(crew, 0, x_at, gamma, beta, normed, M, N, eps)
        linear["none"](crew, 1, normed, attn, attn_more, qkv, M, N, 3 * N)
        attention(crew, 2, qkv, cache, new, mixed, scale)
        comptime then = 2 + ATTENTION_PARTS
        linear_onto(crew, then, mixed, proj, proj_more, x_at, between, M, N, N)
        layer_norm(crew, then + 1, between, second_gamma, second_beta, normed, M, N, eps)
        linear[activation](crew, then + 2, normed, fc, fc_more, hidden, M, N, inner)
        linear_onto(crew, then + 3, hidden, out, out_more, between, y_at, M, inner, N)

    work_together[PARTS](parts)
