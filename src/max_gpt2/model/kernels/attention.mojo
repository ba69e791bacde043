"""Causal attention of new tokens to themselves and to the tokens in the cache.

softmax(q @ k.T * scale) @ v: Vaswani et al. 2017, section 3.2. A score is one chain of multiply-adds over head_dim, and
an element of the result is one chain over the tokens, to which masked tokens add exactly zero. So the result for a
token is bitwise identical regardless of the rest of the batch and of the kind of cache, contiguous or paged.
"""

import extensibility
from max.gpu.host import DeviceContext
from std.math import align_up, ceildiv, exp

from .kv_cache import HeadCache, LayerCache, RaggedBatch, append
from .matrix import Matrix, Workspace
from .threads import ThreadTeam, run_team
from .tuning import ATTENTION_QUERIES, ATTENTION_TOKENS, ATTENTION_VECTORS, KEY_BLOCK
from .types import F32, I64, FloatBuffer5D, FloatBuffer6D, FloatTensor2D, Floats, IntTensor1D, IntTensor2D
from .types import MutFloats, ResultTensor2D, UntrackedFloats, UntrackedInts, Vector, W, prefetch_l2


@extensibility.register("gpt2.attention")
struct Attention:
    """Append new keys and values to a contiguous cache and attend: qkv [tokens, 3 * n_embd] -> [tokens, n_embd].

    `kv_cache.mojo` has the shapes of the cache. `row_offsets` is [batch + 1], `cache_lengths` and `slots` are [batch].
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        qkv: FloatTensor2D,
        keys: FloatBuffer6D,
        values: FloatBuffer5D,
        row_offsets: IntTensor1D,
        cache_lengths: IntTensor1D,
        slots: IntTensor1D,
        layer: Scalar[I64],
        scale: Scalar[F32],
        ctx: DeviceContext,
    ) raises:
        var cache = LayerCache.contiguous(keys, values, slots).layer(Int(layer))
        var batch = RaggedBatch(row_offsets, cache_lengths, qkv.dim_size(0))
        debug_assert[assert_mode="safe"](slots.dim_size(0) == batch.size, "slots is not [batch]")
        _attention(y, qkv, cache, batch, scale)


@extensibility.register("gpt2.paged_attention")
struct PagedAttention:
    """Append new keys and values to a paged cache and attend: qkv [tokens, 3 * n_embd] -> [tokens, n_embd].

    `kv_cache.mojo` has the shapes of the cache; the page size is a multiple of KEY_BLOCK.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        qkv: FloatTensor2D,
        blocks: FloatBuffer6D,
        row_offsets: IntTensor1D,
        cache_lengths: IntTensor1D,
        lookup_table: IntTensor2D,
        layer: Scalar[I64],
        scale: Scalar[F32],
        ctx: DeviceContext,
    ) raises:
        var cache = LayerCache.paged(blocks, lookup_table).layer(Int(layer))
        var batch = RaggedBatch(row_offsets, cache_lengths, qkv.dim_size(0))
        debug_assert[assert_mode="safe"](lookup_table.dim_size(0) == batch.size, "lookup_table is not [batch, pages]")
        _attention(y, qkv, cache, batch, scale)


def _attention(y: ResultTensor2D, qkv: FloatTensor2D, cache: LayerCache, batch: RaggedBatch, scale: Scalar[F32]) raises:
    """Check the shapes and run the phases of attention as one operation."""
    cache.check(batch, y.dim_size(1))
    debug_assert[assert_mode="safe"](y.dim_size(0) == qkv.dim_size(0), "y and qkv do not have the same tokens")
    debug_assert[assert_mode="safe"](qkv.dim_size(1) == 3 * y.dim_size(1), "qkv is not [tokens, 3 * n_embd]")
    var qkv_rows = Matrix.row_major(qkv)  # [tokens, 3 * n_embd]
    var y_rows = Matrix.row_major(y)  # [tokens, n_embd]

    def work(mut team: ThreadTeam) {var}:
        attention(team, qkv_rows, cache, batch, y_rows, scale)

    run_team(2, work)


@always_inline
def attention(mut team: ThreadTeam, qkv: Matrix, cache: LayerCache, batch: RaggedBatch, y: Matrix, scale: Scalar[F32]):
    """Append the new keys and values and compute y, [tokens, n_embd], in one or two phases.

    Rows of qkv, [tokens, 3 * n_embd], are contiguous.
    """
    var n_head = cache.n_head
    var chunks = ceildiv(batch.longest(), ATTENTION_TOKENS)  # of the longest sequence

    def append_and_attend(item: Int) {var}:
        _append_chunk(item // n_head, item % n_head, 0, qkv, cache, batch)
        _attend_chunk(item // n_head, item % n_head, 0, qkv, cache, batch, y, scale)

    def attend_chunk(item: Int) {var}:
        _attend_chunk(item // n_head // chunks, item % n_head, item // n_head % chunks, qkv, cache, batch, y, scale)

    if chunks == 1:
        team.phase(batch.size * n_head, append_and_attend)
    else:  # a later chunk reads the keys and values of all earlier ones
        _append_all(team, qkv, cache, batch)
        team.phase(batch.size * n_head * chunks, attend_chunk)


@always_inline
def attention_at(
    mut team: ThreadTeam,
    qkv: Matrix,
    queries: Matrix,
    indices: UntrackedInts,
    R: Int,
    cache: LayerCache,
    batch: RaggedBatch,
    y: Matrix,
    scale: Scalar[F32],
):
    """Append all new keys and values, and compute attention for the R tokens `indices` only, in two phases.

    `indices`, [R], ascend. `queries` and y are [R, n_embd]. Of qkv, [tokens, 3 * n_embd], keys and values are read.
    """
    var n_head = cache.n_head

    def attend_chunk(item: Int) {var}:
        var r = item // n_head * ATTENTION_TOKENS
        var end = min(r + ATTENTION_TOKENS, R)
        var sequence = 0
        while r < end:
            var token = Int(indices.unsafe_load(r))
            while batch.start(sequence + 1) <= token:
                sequence += 1
            # Consecutive tokens of a sequence are computed together.
            var count = 1
            var most = min(end - r, batch.start(sequence + 1) - token)
            while count < most and Int(indices.unsafe_load(r + count)) == token + count:
                count += 1
            var first = token - batch.start(sequence)
            var head = cache.head(sequence, item % n_head)
            var q = queries.from_row(r - first)
            attend(head, q, y.from_row(r - first), scale, batch.cached(sequence), first, first + count)
            r += count

    _append_all(team, qkv, cache, batch)
    team.phase(ceildiv(R, ATTENTION_TOKENS) * n_head, attend_chunk)


@always_inline
def _append_all(mut team: ThreadTeam, qkv: Matrix, cache: LayerCache, batch: RaggedBatch):
    """Append the keys and values of all new tokens, in one phase."""
    var n_head = cache.n_head
    var chunks = ceildiv(batch.longest(), ATTENTION_TOKENS)

    def append_chunk(item: Int) {var}:
        _append_chunk(item // n_head // chunks, item % n_head, item // n_head % chunks, qkv, cache, batch)

    team.phase(batch.size * n_head * chunks, append_chunk)


@always_inline
def _append_chunk(sequence: Int, head: Int, chunk: Int, qkv: Matrix, cache: LayerCache, batch: RaggedBatch):
    """Append a chunk of at most ATTENTION_TOKENS tokens of one sequence, for one head."""
    var first = chunk * ATTENTION_TOKENS
    var last = min(first + ATTENTION_TOKENS, batch.count(sequence))
    append(cache.head(sequence, head), qkv.from_row(batch.start(sequence)), batch.cached(sequence), first, last)


@always_inline
def _attend_chunk(
    sequence: Int,
    head: Int,
    chunk: Int,
    qkv: Matrix,
    cache: LayerCache,
    batch: RaggedBatch,
    y: Matrix,
    scale: Scalar[F32],
):
    """Compute attention for a chunk of at most ATTENTION_TOKENS tokens of one sequence, for one head."""
    var start = batch.start(sequence)
    var first = chunk * ATTENTION_TOKENS
    var last = min(first + ATTENTION_TOKENS, batch.count(sequence))
    if first < last:
        var q = qkv.from_row(start)
        attend(cache.head(sequence, head), q, y.from_row(start), scale, batch.cached(sequence), first, last)


def attend(cache: HeadCache, q: Matrix, y: Matrix, scale: Scalar[F32], cached: Int, first: Int, last: Int):
    """Compute attention of one head for the new tokens [first, last) of a sequence with `cached` tokens before them.

    q and y, [tokens, n_embd], begin at the sequence's first new token. Rows of q are contiguous.
    """
    var row_stride = align_up(cached + last, KEY_BLOCK)
    var workspace = Workspace(ATTENTION_QUERIES * row_stride)
    var scores = _Scores(workspace.take(ATTENTION_QUERIES * row_stride), row_stride)
    var s = first
    while s + ATTENTION_QUERIES <= last:
        _attend_queries[ATTENTION_QUERIES](cache, q.from_row(s), y.from_row(s), scores, scale, cached + s)
        s += ATTENTION_QUERIES
    while s < last:
        _attend_queries[1](cache, q.from_row(s), y.from_row(s), scores, scale, cached + s)
        s += 1
    workspace.free()


@fieldwise_init
struct _Scores(TrivialRegisterPassable):
    """The scores of some queries with all tokens before them; after the softmax, their weights."""

    var data: UntrackedFloats  # [queries, row_stride]
    var row_stride: Int


@always_inline
def _attend_queries[Q: Int](cache: HeadCache, q: Matrix, y: Matrix, scores: _Scores, scale: Scalar[F32], position: Int):
    """Compute y, [Q, head_dim], for the queries at `position` and the Q - 1 after it."""
    # One query leaves enough registers for a whole block of keys, so that it reads memory in order.
    comptime V = KEY_BLOCK // W if Q == 1 else ATTENTION_VECTORS
    comptime assert KEY_BLOCK % (V * W) == 0, "ATTENTION_VECTORS * W must divide KEY_BLOCK"
    var query = q.ptr(0, cache.query_column())
    var seen = position + Q  # tokens that the last query sees
    for t in range(0, seen, KEY_BLOCK):
        var keys = cache.key(t)
        var next_keys = cache.key(t + KEY_BLOCK) - keys if t + KEY_BLOCK < seen else 0
        comptime for part in range(0, KEY_BLOCK, V * W):
            var row = _Scores(scores.data.unsafe_offset(t + part), scores.row_stride)
            var block = cache.keys.unsafe_offset(keys + part)
            _compute_scores[Q, V](block, cache.head_dim, query, q.row_stride, next_keys, row, scale)
    var factors = Array[Scalar[F32], Q](fill=0)
    comptime for i in range(Q):
        var row = scores.data.unsafe_offset(i * scores.row_stride)
        factors[i] = 1 / _softmax(row, position + i + 1, align_up(seen, KEY_BLOCK))
    var d = 0
    while d + V * W <= cache.head_dim:
        _mix_values[Q, V, W](cache, scores, factors, y, d, seen)
        d += V * W
    while d + W <= cache.head_dim:
        _mix_values[Q, 1, W](cache, scores, factors, y, d, seen)
        d += W
    while d < cache.head_dim:
        _mix_values[Q, 1, 1](cache, scores, factors, y, d, seen)
        d += 1


@always_inline
def _compute_scores[
    Q: Int, V: Int
](keys: Floats, head_dim: Int, query: Floats, query_stride: Int, next_keys: Int, scores: _Scores, scale: Scalar[F32]):
    """Compute the scores, [Q, V * W], of Q queries and keys of a block; prefetch the keys `next_keys` further."""
    var sums = Array[Vector, Q * V](fill=0)  # [Q, V * W]
    for d in range(head_dim):
        comptime for v in range(V):
            var key = keys.unsafe_load[width=W](d * KEY_BLOCK + v * W)
            comptime if Q == 1:  # several queries reuse the keys while they are in the CPU cache
                prefetch_l2(keys.unsafe_offset(next_keys + d * KEY_BLOCK + v * W))
            comptime for i in range(Q):
                var factor = Vector(query.unsafe_load(i * query_stride + d))
                sums[i * V + v] = key.fma(factor, sums[i * V + v])
    comptime for i in range(Q):
        comptime for v in range(V):
            scores.data.unsafe_store(i * scores.row_stride + v * W, sums[i * V + v] * scale)


@always_inline
def _softmax(scores: MutFloats, seen: Int, end: Int) -> Scalar[F32]:
    """Replace the scores of tokens [0, seen) by exp(score - maximum), those of [seen, end) by zero; return the sum."""
    for t in range(seen, end):
        scores.unsafe_store(t, Scalar[F32].MIN)
    var largest = Vector(Scalar[F32].MIN)
    for t in range(0, end, W):
        largest = max(largest, scores.unsafe_load[width=W](t))
    var maximum = largest.reduce_max()
    var sums = Vector(0)
    for t in range(0, end, W):
        var weight = exp(scores.unsafe_load[width=W](t) - maximum)
        scores.unsafe_store(t, weight)
        sums += weight
    for t in range(seen, end):
        scores.unsafe_store(t, 0)
    return sums.reduce_add()


@always_inline
def _mix_values[
    Q: Int, V: Int, width: Int
](cache: HeadCache, weights: _Scores, factors: Array[Scalar[F32], Q], y: Matrix, d: Int, seen: Int):
    """Compute the elements [d, d + V * width) of y, [Q, head_dim]: the weighted sums of the values seen."""
    var sums = Array[SIMD[F32, width], Q * V](fill=0)  # [Q, V * width]
    for start in range(0, seen, cache.page_size):
        var page = cache.values.unsafe_offset(cache.page(start) + d)  # [page_size, head_dim]
        for t in range(min(cache.page_size, seen - start)):
            comptime for v in range(V):
                var value = page.unsafe_load[width=width](t * cache.head_dim + v * width)
                comptime for i in range(Q):
                    var factor = SIMD[F32, width](weights.data.unsafe_load(i * weights.row_stride + start + t))
                    sums[i * V + v] = value.fma(factor, sums[i * V + v])
    comptime for i in range(Q):
        comptime for v in range(V):
            y.store(i, cache.query_column() + d + v * width, sums[i * V + v] * factors[i])
