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
from max.gpu.host import DeviceContext
from std.math import ceildiv

from .attention_head import Head, append, attend
from .cached import Cache, New, new_tokens, pages_of_layer, slots_of_layer
from .crew import Crew, work_together
from .floats import F
from .rows import Rows, rows_of

#: So many tokens of a text are one piece of work, for one head.
comptime PIECE = 48
#: What a crew counts of an attention.
comptime ATTENTION_PARTS = 2


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
        var cache = slots_of_layer(keys, values, slots, Int(layer))
        var new = new_tokens(offsets, lengths)
        var qkv_rows = rows_of(qkv)
        var y_rows = rows_of(y)

        def work(crew: Crew) {var}:
            attention(crew, 0, qkv_rows, cache, new, y_rows, scale)

        work_together[ATTENTION_PARTS](work)


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
        var cache = pages_of_layer(blocks, table, Int(layer))
        var new = new_tokens(offsets, lengths)
        var qkv_rows = rows_of(qkv)
        var y_rows = rows_of(y)

        def work(crew: Crew) {var}:
            attention(crew, 0, qkv_rows, cache, new, y_rows, scale)

        work_together[ATTENTION_PARTS](work)


@always_inline
def attention(crew: Crew, part: Int, qkv: Rows, cache: Cache, new: New, y: Rows, scale: Scalar[F]):
    """The parts [part, part + ATTENTION_PARTS) of what a crew does; rows of qkv are in one piece."""
    var n_head = cache.head.n_head
    var dim = cache.head.dim
    var size = dim * cache.head.room
    var longest = 0
    for text in range(new.texts):
        longest = max(longest, new.count(text))
    var pieces = ceildiv(longest, PIECE)

    def work[appends: Bool, attends: Bool](text: Int, h: Int, piece: Int) {var}:
        var start = new.start(text)
        var length = Int(new.lengths.unsafe_load(text))
        var first = piece * PIECE
        var last = min(first + PIECE, new.count(text))
        if first < last:
            var head = Head(h, n_head, dim, cache.head.room, cache.head.stride)
            var pages = cache.table.unsafe_offset(text * cache.width)
            var tokens = qkv.below(start)
            var to = y.below(start)
            var keys = cache.keys.unsafe_offset(h * size)
            var values = cache.values.unsafe_offset(h * size)
            comptime if appends:
                append(head, tokens, keys, values, pages, length, first, last)
            comptime if attends:
                attend(head, tokens, keys, values, pages, to, scale, length, first, last)

    def one_piece(item: Int) {var}:
        work[True, True](item // n_head, item % n_head, 0)

    def append_piece(item: Int) {var}:
        work[True, False](item // n_head // pieces, item % n_head, item // n_head % pieces)

    def attend_piece(item: Int) {var}:
        work[False, True](item // n_head // pieces, item % n_head, item // n_head % pieces)

    if pieces == 1:
        crew.part(part, new.texts * n_head, one_piece)
    else:  # all keys have to be there before a later piece looks at them
        crew.part(part, new.texts * n_head * pieces, append_piece)
        crew.part(part + 1, new.texts * n_head * pieces, attend_piece)
