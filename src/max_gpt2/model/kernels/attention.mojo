"""Causal attention of new tokens to themselves and to those before them, whose keys and values are in a cache.

softmax(q @ k.T * scale) @ v: Vaswani et al. 2017, section 3.2. The new tokens are those of several texts, one after
another. Keys are stored transposed, so that a vector holds the same element of `W` keys; a score is one chain of
multiply-adds over `head_dim`, and a mixed value one over the tokens, where a token that is not to be seen counts
exactly zero. So what comes out for a token has the same bits whatever is computed along with it, and wherever the
cache keeps its keys and values: in one slot for each text, or in pages.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from extensibility.managed_tensor_slice import _MutableInputTensor as MutableInputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.math import ceildiv

from .attention_head import Head, append, attend
from .floats import F, Floats, Ids, MutFloats

#: So many tokens of a text are one piece of work, for one head.
comptime PIECE = 48


@extensibility.register("gpt2.attention")
struct Attention:
    """[tokens, 3 * n_embd] -> [tokens, n_embd]; the new keys and values are put into the cache.

    `keys` is [n_layer, slots, n_head, head_dim, room] and `values` [n_layer, slots, n_head, room, head_dim], with a
    room that is a multiple of 64. Text i has the tokens [offsets[i], offsets[i + 1]); `lengths[i]` others of it are in
    the cache already, in its slot `slots[i]`. All of these are int64.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=2, ...],
        qkv: InputTensor[dtype=DType.float32, rank=2, ...],
        keys: MutableInputTensor[dtype=DType.float32, rank=5, ...],
        values: MutableInputTensor[dtype=DType.float32, rank=5, ...],
        offsets: InputTensor[dtype=DType.int64, rank=1, ...],
        lengths: InputTensor[dtype=DType.int64, rank=1, ...],
        slots: InputTensor[dtype=DType.int64, rank=1, ...],
        layer: Scalar[DType.int64],
        scale: Scalar[DType.float32],
        ctx: DeviceContext,
    ) raises:
        var slot = keys.dim_size(2) * keys.dim_size(3) * keys.dim_size(4)
        var first = Int(layer) * keys.dim_size(1) * slot
        _attention(
            Head(0, keys.dim_size(2), keys.dim_size(3), keys.dim_size(4), slot),
            qkv.unsafe_ptr(),
            keys.unsafe_ptr().unsafe_offset(first),
            values.unsafe_ptr().unsafe_offset(first),
            y.unsafe_ptr(),
            offsets.unsafe_ptr(),
            lengths.unsafe_ptr(),
            lengths.dim_size(0),
            slots.unsafe_ptr(),
            1,
            scale,
        )


@extensibility.register("gpt2.paged_attention")
struct PagedAttention:
    """[tokens, 3 * n_embd] -> [tokens, n_embd], with a cache in pages of `room` tokens, a multiple of 64.

    `blocks` is [pages, 2, n_layer, room, n_head, head_dim] by its shape, which is that of MAX's cache. Nothing else
    reads it, so what a page holds of a layer are the keys as [n_head, head_dim, room] and the values as
    [n_head, room, head_dim]. Text i has its tokens from j * room on in page `table[i, j]`.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=2, ...],
        qkv: InputTensor[dtype=DType.float32, rank=2, ...],
        blocks: MutableInputTensor[dtype=DType.float32, rank=6, ...],
        offsets: InputTensor[dtype=DType.int64, rank=1, ...],
        lengths: InputTensor[dtype=DType.int64, rank=1, ...],
        table: InputTensor[dtype=DType.int64, rank=2, ...],
        layer: Scalar[DType.int64],
        scale: Scalar[DType.float32],
        ctx: DeviceContext,
    ) raises:
        var n_layer = blocks.dim_size(2)
        var part = blocks.dim_size(3) * blocks.dim_size(4) * blocks.dim_size(5)
        var keys = blocks.unsafe_ptr().unsafe_offset(Int(layer) * part)
        _attention(
            Head(0, blocks.dim_size(4), blocks.dim_size(5), blocks.dim_size(3), 2 * n_layer * part),
            qkv.unsafe_ptr(),
            keys,
            keys.unsafe_offset(n_layer * part),
            y.unsafe_ptr(),
            offsets.unsafe_ptr(),
            lengths.unsafe_ptr(),
            lengths.dim_size(0),
            table.unsafe_ptr(),
            table.dim_size(1),
            scale,
        )


def _attention(
    first_head: Head,
    qkv: Floats,
    keys: MutFloats,
    values: MutFloats,
    y: MutFloats,
    offsets: Ids,
    lengths: Ids,
    texts: Int,
    table: Ids,
    table_width: Int,
    scale: Scalar[F],
):
    """The attention of one layer, whose cache begins at `keys` and `values`; `table` is [texts, table_width]."""
    var n_head = first_head.n_head
    var dim = first_head.dim
    var size = dim * first_head.room
    var longest = 0
    for text in range(texts):
        longest = max(longest, Int(offsets.unsafe_load(text + 1) - offsets.unsafe_load(text)))
    var pieces = ceildiv(longest, PIECE)

    def work[appends: Bool, attends: Bool](text: Int, h: Int, piece: Int) {var}:
        var start = Int(offsets.unsafe_load(text))
        var seq = Int(offsets.unsafe_load(text + 1)) - start
        var length = Int(lengths.unsafe_load(text))
        var first = piece * PIECE
        var last = min(first + PIECE, seq)
        if first < last:
            var head = Head(h, n_head, dim, first_head.room, first_head.stride)
            var pages = table.unsafe_offset(text * table_width)
            var new = qkv.unsafe_offset(start * 3 * n_head * dim)
            var to = y.unsafe_offset(start * n_head * dim)
            var keys_of = keys.unsafe_offset(h * size)
            var values_of = values.unsafe_offset(h * size)
            comptime if appends:
                append(head, new, keys_of, values_of, pages, length, first, last)
            comptime if attends:
                attend(head, new, keys_of, values_of, pages, to, scale, length, first, last)

    def one_piece(task: Int) {var}:
        work[True, True](task // n_head, task % n_head, 0)

    def append_piece(task: Int) {var}:
        work[True, False](task // n_head // pieces, task % n_head, task // n_head % pieces)

    def attend_piece(task: Int) {var}:
        work[False, True](task // n_head // pieces, task % n_head, task // n_head % pieces)

    if pieces == 1:
        sync_parallelize(one_piece, texts * n_head)
    else:  # all keys have to be there before a later piece looks at them
        sync_parallelize(append_piece, texts * n_head * pieces)
        sync_parallelize(attend_piece, texts * n_head * pieces)
