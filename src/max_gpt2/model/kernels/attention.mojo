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

from .attention_head import append, attend
from .cached import Cache, New, new_tokens, pages_of_layer, slots_of_layer
from .crew import Crew, work_together
from .floats import F, Ids
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
    var pieces = _pieces(new)

    def one_piece(item: Int) {var}:
        _append(item // n_head, item % n_head, 0, qkv, cache, new)
        _attend(item // n_head, item % n_head, 0, qkv, cache, new, y, scale)

    def attend_piece(item: Int) {var}:
        _attend(item // n_head // pieces, item % n_head, item // n_head % pieces, qkv, cache, new, y, scale)

    if pieces == 1:
        crew.part(part, new.texts * n_head, one_piece)
    else:  # all keys have to be there before a later piece looks at them
        _append_all(crew, part, qkv, cache, new)
        crew.part(part + 1, new.texts * n_head * pieces, attend_piece)


@always_inline
def attention_of_some(
    crew: Crew,
    part: Int,
    qkv: Rows,
    queries: Rows,
    kept: Ids,
    R: Int,
    cache: Cache,
    new: New,
    y: Rows,
    scale: Scalar[F],
):
    """The same for the tokens `kept` alone, R numbers that rise: y is [R, n_embd], and so are their queries.

    Of qkv, only the keys and values are looked at.
    """
    var n_head = cache.head.n_head

    def attend_piece(item: Int) {var}:
        var of_head = cache.of_head(item % n_head)
        var r = item // n_head * PIECE
        var end = min(r + PIECE, R)
        var text = 0
        while r < end:
            var token = Int(kept.unsafe_load(r))
            while new.start(text + 1) <= token:
                text += 1
            var count = 1  # of tokens that follow one another in a text
            var most = min(end - r, new.start(text + 1) - token)
            while count < most and Int(kept.unsafe_load(r + count)) == token + count:
                count += 1
            var first = token - new.start(text)
            var tokens = queries.below(r - first)
            _attend_tokens(of_head, tokens, new, text, y.below(r - first), scale, first, first + count)
            r += count

    _append_all(crew, part, qkv, cache, new)
    crew.part(part + 1, ceildiv(R, PIECE) * n_head, attend_piece)


def _pieces(new: New) -> Int:
    """How many pieces the text has that has the most new tokens."""
    var longest = 0
    for text in range(new.texts):
        longest = max(longest, new.count(text))
    return ceildiv(longest, PIECE)


@always_inline
def _append_all(crew: Crew, part: Int, qkv: Rows, cache: Cache, new: New):
    var n_head = cache.head.n_head
    var pieces = _pieces(new)

    def piece(item: Int) {var}:
        _append(item // n_head // pieces, item % n_head, item // n_head % pieces, qkv, cache, new)

    crew.part(part, new.texts * n_head * pieces, piece)


@always_inline
def _append(text: Int, h: Int, piece: Int, qkv: Rows, cache: Cache, new: New):
    var first = piece * PIECE
    var last = min(first + PIECE, new.count(text))
    var one = cache.of_head(h)
    var tokens = qkv.below(new.start(text))
    append(one.head, tokens, one.keys, one.values, one.pages(text), new.length(text), first, last)


@always_inline
def _attend(text: Int, h: Int, piece: Int, qkv: Rows, cache: Cache, new: New, y: Rows, scale: Scalar[F]):
    var start = new.start(text)
    var first = piece * PIECE
    var last = min(first + PIECE, new.count(text))
    if first < last:
        _attend_tokens(cache.of_head(h), qkv.below(start), new, text, y.below(start), scale, first, last)


@always_inline
def _attend_tokens(
    of_head: Cache, queries: Rows, new: New, text: Int, y: Rows, scale: Scalar[F], first: Int, last: Int
):
    var pages = of_head.pages(text)
    attend(of_head.head, queries, of_head.keys, of_head.values, pages, y, scale, new.length(text), first, last)
