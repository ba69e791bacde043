"""A block in one go: x + attention(layer_norm(x)), and to that the mlp(layer_norm()) of it.

The threads stay together over all parts. Each number is computed as by the operations one by one. `work` is room for
what lies between the parts. Of a token that nobody asks for there are only the keys and values, which others look at:
the tokens `kept` alone look at others, and go through what comes after that.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from extensibility.managed_tensor_slice import _MutableInputTensor as MutableInputTensor
from max.gpu.host import DeviceContext
from std.memory.alloc import unsafe_alloc

from .attention import ATTENTION_PARTS, attention, attention_of_some
from .cached import Cache, Int64s, New, new_tokens, pages_of_layer, slots_of_layer
from .crew import Crew, work_together
from .few_rows import Sums
from .floats import F, held
from .layer_norm import layer_norm
from .linear import LINEAR_PARTS, linear, linear_onto
from .rows import loose_rows, loose_size, rows_of, sliced_rows, sliced_size
from .take import take

comptime Matrix = InputTensor[dtype=DType.float32, rank=2, ...]
comptime Line = InputTensor[dtype=DType.float32, rank=1, ...]
comptime Result = OutputTensor[dtype=DType.float32, rank=2, ...]
#: What a crew counts: a normalization and two linear layers for each half, the attention, and what it takes to keep
#: some tokens only.
comptime PARTS = 4 + 5 * LINEAR_PARTS + ATTENTION_PARTS


@extensibility.register("gpt2.block")
struct Block:
    """[tokens, n_embd], [kept] of int64 -> [kept, n_embd], with the cache of `Attention`.

    The tokens kept are numbers that rise: as many as there are tokens are all of them. `work` has room for
    [tokens, 2 * n_embd + max(4 * n_embd, n_inner)], in matrices that lie as `rows.mojo` has it.
    """

    @staticmethod
    def execute[
        target: StaticString, activation: StaticString
    ](
        y: Result,
        work: Result,
        x: Matrix,
        kept: Int64s,
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
        offsets: Int64s,
        lengths: Int64s,
        slots: Int64s,
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
            kept,
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
        kept: Int64s,
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
        offsets: Int64s,
        lengths: Int64s,
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
            kept,
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
    kept: Int64s,
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
    var R = kept.dim_size(0)
    var inner = fc_weight.dim_size(1)
    var kept_at = kept.unsafe_ptr()
    var x_rows = rows_of(x)
    var y_rows = rows_of(y)
    var between = loose_rows(held(work.unsafe_ptr()), N)
    var normed = sliced_rows(between.first.unsafe_offset(loose_size(M, N)), M)
    var qkv = loose_rows(normed.first.unsafe_offset(sliced_size(M, N)), 3 * N)
    var mixed = sliced_rows(qkv.first.unsafe_offset(loose_size(M, 3 * N)), R)
    var hidden = sliced_rows(qkv.first, R)  # in the place of qkv, which nobody needs any more
    var onto = x_rows if R == M else y_rows
    var queries = loose_rows(between.first, N)
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

    var room = unsafe_alloc[Scalar[F]](
        max(Sums.size(M, N, 3 * N), Sums.size(R, N, max(N, inner)), Sums.size(R, inner, N))
    )
    var sums = held(room)

    def parts(crew: Crew) {var}:
        layer_norm(crew, 0, x_rows, gamma, beta, normed, M, N, eps)
        comptime attend = 1 + LINEAR_PARTS
        comptime then = attend + ATTENTION_PARTS
        if R == M:
            linear["none"](crew, 1, normed, attn, attn_more, qkv, sums, M, N, 3 * N, 0, 3 * N)
            attention(crew, attend, qkv, cache, new, mixed, scale)
        else:
            linear["none"](crew, 1, normed, attn, attn_more, qkv, sums, M, N, 3 * N, N, 3 * N)
            take(crew, then, normed, kept_at, mixed, R, N)
            linear["none"](crew, then + 1, mixed, attn, attn_more, queries, sums, R, N, 3 * N, 0, N)
            attention_of_some(crew, attend, qkv, queries, kept_at, R, cache, new, mixed, scale)
            take(crew, then + 1 + LINEAR_PARTS, x_rows, kept_at, onto, R, N)
        comptime rest = then + 2 + LINEAR_PARTS
        linear_onto(crew, rest, mixed, proj, proj_more, onto, between, sums, R, N, N)
        comptime second = rest + LINEAR_PARTS
        layer_norm(crew, second, between, second_gamma, second_beta, normed, R, N, eps)
        linear[activation](crew, second + 1, normed, fc, fc_more, hidden, sums, R, N, inner, 0, inner)
        linear_onto(crew, second + 1 + LINEAR_PARTS, hidden, out, out_more, between, y_rows, sums, R, inner, N)

    work_together[PARTS](parts)
    room.unsafe_free()
