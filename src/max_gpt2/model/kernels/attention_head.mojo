"""One head's attention for some of the new tokens of one text."""

from std.math import align_up, exp
from std.memory.alloc import unsafe_alloc

from .floats import F, Floats, Ids, MANY_REGISTERS, MutFloats, Vector, W, fetch, load_part, store_part
from .rows import Rows
from .transpose import transpose

#: How many tokens attend at a time, and how many vectors of keys or of values are held against them.
comptime QUERIES = 6 if MANY_REGISTERS else 2
comptime VECTORS = 4


@fieldwise_init
struct Head(TrivialRegisterPassable):
    """Which of `n_head` heads of `dim` elements, and where its cache is: in pages of `room` tokens, `stride` apart."""

    var index: Int
    var n_head: Int
    var dim: Int
    var room: Int
    var stride: Int

    @always_inline
    def page(self, pages: Ids, token: Int) -> Int:
        """Where the page of a token begins."""
        return Int(pages.unsafe_load(token // self.room)) * self.stride

    @always_inline
    def place(self, pages: Ids, token: Int) -> Int:
        """Where the key of a token begins, in a page of keys."""
        return self.page(pages, token) + token % self.room


def append(
    head: Head, qkv: Rows, keys: MutFloats, values: MutFloats, pages: Ids, length: Int, first: Int, last: Int
):
    """Put the keys and values of the new tokens [first, last) behind the `length` that are in the cache.

    qkv is [tokens, 3 * n_embd], a page of keys [dim, room] and one of values [room, dim].
    """
    var width = head.n_head * head.dim
    for s in range(first, last):
        var value = qkv.at(s, 2 * width + head.index * head.dim)
        var to = values.unsafe_offset(head.page(pages, length + s) + (length + s) % head.room * head.dim)
        for d in range(0, head.dim, W):
            store_part(to.unsafe_offset(d), load_part(value.unsafe_offset(d), head.dim - d), head.dim - d)
    var s = first
    while s < last:
        var key = qkv.at(s, width + head.index * head.dim)
        var token = (length + s) % head.room
        var to = keys.unsafe_offset(head.place(pages, length + s))
        if s + W <= last and token + W <= head.room and head.dim % W == 0:
            for d in range(0, head.dim, W):
                transpose(key.unsafe_offset(d), qkv.apart, to.unsafe_offset(d * head.room), head.room)
            s += W
        else:
            for d in range(head.dim):
                to.unsafe_store(d * head.room, key.unsafe_load(d))
            s += 1


def attend(
    head: Head,
    qkv: Rows,
    keys: Floats,
    values: Floats,
    pages: Ids,
    y: Rows,
    scale: Scalar[F],
    length: Int,
    first: Int,
    last: Int,
):
    """Compute what the new tokens [first, last) see: y is [tokens, n_embd]."""
    var stride = align_up(length + last, VECTORS * W)
    var scores = unsafe_alloc[Scalar[F]](QUERIES * stride)
    var s = first
    while s + QUERIES <= last:
        _attend[QUERIES](head, qkv, keys, values, pages, y, scores, stride, scale, length, s)
        s += QUERIES
    while s < last:
        _attend[1](head, qkv, keys, values, pages, y, scores, stride, scale, length, s)
        s += 1
    scores.unsafe_free()


@always_inline
def _attend[
    Q: Int
](
    head: Head,
    qkv: Rows,
    keys: Floats,
    values: Floats,
    pages: Ids,
    y: Rows,
    scores: MutFloats,
    stride: Int,
    scale: Scalar[F],
    length: Int,
    s: Int,
):
    var column = head.index * head.dim
    var query = qkv.at(s, column)
    var seen = length + s + Q  # by the last of them
    for t in range(0, seen, VECTORS * W):
        var block = head.place(pages, t)
        var next = head.place(pages, t + VECTORS * W) - block if t + VECTORS * W < seen else 0
        _scores[Q](query, qkv.apart, keys.unsafe_offset(block), next, scores.unsafe_offset(t), stride, scale, head)
    var factors = Array[Scalar[F], Q](fill=0)
    comptime for q in range(Q):
        factors[q] = 1 / _softmax(scores.unsafe_offset(q * stride), length + s + q + 1, align_up(seen, VECTORS * W))
    var to = y.below(s)
    var d = 0
    while d + VECTORS * W <= head.dim:
        _mix[Q, VECTORS, W](scores, stride, values.unsafe_offset(d), pages, to, column + d, factors, head, seen)
        d += VECTORS * W
    while d + W <= head.dim:
        _mix[Q, 1, W](scores, stride, values.unsafe_offset(d), pages, to, column + d, factors, head, seen)
        d += W
    while d < head.dim:
        _mix[Q, 1, 1](scores, stride, values.unsafe_offset(d), pages, to, column + d, factors, head, seen)
        d += 1


@always_inline
def _scores[
    Q: Int
](
    query: Floats,
    query_stride: Int,
    keys: Floats,
    next: Int,
    scores: MutFloats,
    stride: Int,
    scale: Scalar[F],
    head: Head,
):
    """The scores of Q tokens with VECTORS * W others; ask for the keys that are `next` to theirs."""
    var sums = Array[Vector, Q * VECTORS](fill=0)
    for d in range(head.dim):
        comptime for v in range(VECTORS):
            var key = keys.unsafe_load[width=W](d * head.room + v * W)
            comptime if Q == 1:  # for more, the keys are looked at often enough to be near
                fetch(keys.unsafe_offset(next + d * head.room + v * W))
            comptime for q in range(Q):
                var factor = Vector(query.unsafe_load(q * query_stride + d))
                sums[q * VECTORS + v] = key.fma(factor, sums[q * VECTORS + v])
    comptime for q in range(Q):
        comptime for v in range(VECTORS):
            scores.unsafe_store(q * stride + v * W, sums[q * VECTORS + v] * scale)


@always_inline
def _softmax(scores: MutFloats, seen: Int, end: Int) -> Scalar[F]:
    """Make of the scores what they are weighed with, zero from `seen` up to `end`, and return the sum of all."""
    for t in range(seen, end):
        scores.unsafe_store(t, Scalar[F].MIN)
    var largest = Vector(Scalar[F].MIN)
    for t in range(0, end, W):
        largest = max(largest, scores.unsafe_load[width=W](t))
    var top = largest.reduce_max()
    var sums = Vector(0)
    for t in range(0, end, W):
        var weight = exp(scores.unsafe_load[width=W](t) - top)
        scores.unsafe_store(t, weight)
        sums += weight
    for t in range(seen, end):
        scores.unsafe_store(t, 0)
    return sums.reduce_add()


@always_inline
def _mix[
    Q: Int, V: Int, width: Int
](
    weights: Floats,
    stride: Int,
    values: Floats,
    pages: Ids,
    y: Rows,
    column: Int,
    factors: Array[Scalar[F], Q],
    head: Head,
    seen: Int,
):
    """The weighted sums of V * width elements of the values, for Q tokens: those of y from a column on."""
    var sums = Array[SIMD[F, width], Q * V](fill=0)
    for start in range(0, seen, head.room):
        var page = values.unsafe_offset(head.page(pages, start))
        for t in range(min(head.room, seen - start)):
            comptime for v in range(V):
                var value = page.unsafe_load[width=width](t * head.dim + v * width)
                comptime for q in range(Q):
                    var factor = SIMD[F, width](weights.unsafe_load(q * stride + start + t))
                    sums[q * V + v] = value.fma(factor, sums[q * V + v])
    comptime for q in range(Q):
        comptime for v in range(V):
            y.store(q, column + v * width, sums[q * V + v] * factors[q])
