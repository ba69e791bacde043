"""The language-model head, x @ weight.T, with weight [vocab, n_embd] as in the token embedding, in any type.

A logit is the dot product of two rows. Its sum runs along the rows in W lanes, one chain of multiply-adds each, so a
logit is bitwise identical regardless of the rest of the batch.
"""

import extensibility
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from max.runtime.asyncrt import parallelism_level
from std.math import align_up, ceildiv

from .matrix import Workspace
from .tuning import (
    CACHE_LINE,
    DECODED_ROWS,
    HEAD_R,
    HEAD_T,
    LOGITS_ACCUMULATORS,
    LOGITS_ROWS,
    LOGITS_TOKENS,
    LOGITS_UNROLL,
)
from .types import ByteTensor2D, FloatTensor2D, IntTensor1D, ResultTensor2D, UntrackedFloats, Vector, W
from .types import prefetch_l2, untracked, untracked_bytes
from .weights import I8, TYPE_F32, TYPES, BlockScales, Table, block_quants, block_scales, block_values, element_type
from .weights import is_quantised, load_as, row_block, row_bytes


@extensibility.register("gpt2.logits")
struct Logits:
    """Compute logits: x [tokens, n_embd], weight [vocab, n_embd] as bytes -> [tokens, vocab].

    `type` begins with the type of the weight; `weight` is [vocab, bytes of a row].
    """

    @staticmethod
    def execute[
        target: StaticString
    ](y: ResultTensor2D, x: FloatTensor2D, weight: ByteTensor2D, type: IntTensor1D, ctx: DeviceContext) raises:
        var M = x.dim_size(0)
        var K = x.dim_size(1)
        var N = weight.dim_size(0)
        var table = Table(untracked_bytes(weight), Int(type.unsafe_ptr().unsafe_load(0)), K)
        debug_assert[assert_mode="safe"](
            weight.dim_size(1) == row_bytes(table.type, K), "weight is not [vocab, n_embd]"
        )
        debug_assert[assert_mode="safe"](y.dim_size(0) == M and y.dim_size(1) == N, "y is not [tokens, vocab]")
        var x_ptr = untracked(x.unsafe_ptr())
        var y_ptr = untracked(y.unsafe_ptr())
        var share = align_up(ceildiv(N, parallelism_level(None)), LOGITS_ROWS)  # of the vocabulary, for a thread

        def compute(thread: Int) {var}:
            var last = min((thread + 1) * share, N)
            if table.type == TYPE_F32:
                var head = Head(x_ptr, table.floats(), y_ptr, K, K, N)
                for n in range(thread * share, last, LOGITS_ROWS):
                    head.columns(M, n, min(n + LOGITS_ROWS, last))
            elif M == 1:
                logits_of_token(table, x_ptr, y_ptr, thread * share, last)
            else:
                # Rows that are decoded once stay in the cache while all tokens use them.
                var workspace = Workspace(LOGITS_ROWS * K)
                var rows = workspace.take(LOGITS_ROWS * K)  # [LOGITS_ROWS, K]
                for n in range(thread * share, last, LOGITS_ROWS):
                    var count = min(LOGITS_ROWS, last - n)
                    table.row(n).decode_rows(count, rows, K)
                    Head(x_ptr, rows, y_ptr.unsafe_offset(n), K, K, N).columns(M, 0, count)
                workspace.free()

        sync_parallelize(compute, ceildiv(N, share))


def logits_of_token(table: Table, x: UntrackedFloats, y: UntrackedFloats, first: Int, last: Int):
    """Compute the columns [first, last) of y, [vocab], from x, [K], with a weight of another type than float32."""
    comptime for type in range(1, TYPES):
        if type == table.type:
            var n = first
            while n + DECODED_ROWS <= last:
                _dot_rows[type, DECODED_ROWS](table.row(n), x, y.unsafe_offset(n))
                n += DECODED_ROWS
            while n < last:
                _dot_rows[type, 1](table.row(n), x, y.unsafe_offset(n))
                n += 1


@always_inline
def _dot_rows[type: Int, R: Int](table: Table, x: UntrackedFloats, y: UntrackedFloats):
    """Compute y, [R], the dot products of x and R rows of the weight, which are decoded in registers."""
    var stride = row_bytes(type, table.K)
    var sums = Array[Vector, R](fill=0)
    var k = 0
    comptime if is_quantised(type):
        comptime BLOCK = row_block(type)
        for block in range(table.K // BLOCK):
            var at = table.data.unsafe_offset(block * comptime (row_bytes(type, BLOCK)))
            var scales = Array[BlockScales[type], R](uninitialized=True)
            comptime for r in range(R):
                scales[r] = block_scales[type](at.unsafe_offset(r * stride))
                comptime for line in range(0, row_bytes(type, BLOCK), 4 * CACHE_LINE):
                    prefetch_l2(at.unsafe_offset((r + R) * stride + line))
            comptime for index in range(BLOCK // 32):
                var quants = Array[SIMD[I8, 32], R](fill=0)
                comptime for r in range(R):
                    quants[r] = block_quants[type, index](at.unsafe_offset(r * stride))
                comptime for offset in range(32 * index, 32 * (index + 1), W):
                    var factor = x.unsafe_load[width=W](block * BLOCK + offset)
                    comptime for r in range(R):
                        sums[r] = block_values[type, offset, W](quants[r], scales[r]).fma(factor, sums[r])
    else:
        while k + W <= table.K:
            var factor = x.unsafe_load[width=W](k)
            comptime for r in range(R):
                var row = table.data.unsafe_offset(r * stride)
                prefetch_l2(row.unsafe_offset(R * stride + 2 * k))
                sums[r] = load_as[element_type(type), W](row, k).fma(factor, sums[r])
            k += W
    comptime for r in range(R):
        var sum = sums[r].reduce_add()
        comptime if not is_quantised(type):
            for rest in range(k, table.K):
                var value = load_as[element_type(type), 1](table.data.unsafe_offset(r * stride), rest)
                sum = value.fma(x.unsafe_load(rest), sum)
        y.unsafe_store(r, sum)


@fieldwise_init
struct Head(TrivialRegisterPassable):
    """A view of the operands of the head that starts at one token and one row of the weight."""

    var x: UntrackedFloats  # [M, K], rows `x_stride` apart
    var weight: UntrackedFloats  # [N, K]
    var y: UntrackedFloats  # [M, N], rows `y_stride` apart
    var K: Int
    var x_stride: Int
    var y_stride: Int

    @always_inline
    def at(self, m: Int, n: Int) -> Self:
        """Return the view that starts `m` tokens and `n` rows of the weight further."""
        return Self(
            self.x.unsafe_offset(m * self.x_stride),
            self.weight.unsafe_offset(n * self.K),
            self.y.unsafe_offset(m * self.y_stride + n),
            self.K,
            self.x_stride,
            self.y_stride,
        )

    def columns(self, M: Int, first: Int, last: Int):
        """Compute the columns [first, last) of y for M tokens."""
        for m in range(0, M, LOGITS_TOKENS):
            var tokens = min(LOGITS_TOKENS, M - m)
            comptime for T in range(1, LOGITS_TOKENS + 1):
                if T == tokens:
                    self.at(m, 0).columns_of_tokens[T](first, last)

    @always_inline
    def columns_of_tokens[T: Int](self, first: Int, last: Int):
        """Compute the columns [first, last) of y for T tokens, as many rows at a time as there are accumulators."""
        comptime R = max(1, min(8, LOGITS_ACCUMULATORS // T))
        var n = first
        while n + R <= last:
            self.at(0, n).tile[T, R]()
            n += R
        while n < last:
            self.at(0, n).tile[T, 1]()
            n += 1

    @always_inline
    def block(self, tokens: Int, rows: Int):
        """Compute y, [tokens, rows]: HEAD_R rows of the weight stay in the L1 cache while the tokens pass by."""
        var r = 0
        while r + HEAD_R <= rows:
            self.at(0, r).rows_of_block[HEAD_R](tokens)
            r += HEAD_R
        while r < rows:
            self.at(0, r).rows_of_block[1](tokens)
            r += 1

    @always_inline
    def rows_of_block[R: Int](self, tokens: Int):
        """Compute y, [tokens, R]."""
        var t = 0
        while t + HEAD_T <= tokens:
            self.at(t, 0).tile[HEAD_T, R, False]()
            t += HEAD_T
        while t < tokens:
            self.at(t, 0).tile[1, R, False]()
            t += 1

    @always_inline
    def tile[T: Int, R: Int, prefetches: Bool = True](self):
        """Compute y, [T, R]: the dot products of T rows of x and R rows of the weight."""
        var sums = Array[Vector, T * R](fill=0)  # [T, R, W]
        var k = 0
        while k + LOGITS_UNROLL * W <= self.K:
            comptime for u in range(LOGITS_UNROLL):
                self.multiply[T, R, prefetches](k + u * W, sums)
            k += LOGITS_UNROLL * W
        while k + W <= self.K:
            self.multiply[T, R, prefetches](k, sums)
            k += W
        comptime for t in range(T):
            comptime for r in range(R):
                var sum = sums[t * R + r].reduce_add()
                for rest in range(k, self.K):
                    var factor = self.x.unsafe_load(t * self.x_stride + rest)
                    sum = self.weight.unsafe_load(r * self.K + rest).fma(factor, sum)
                self.y.unsafe_store(t * self.y_stride + r, sum)

    @always_inline
    def multiply[T: Int, R: Int, prefetches: Bool](self, k: Int, mut sums: Array[Vector, T * R]):
        """Add the products of the columns [k, k + W) to the sums, [T, R, W]."""
        var factors = Array[Vector, T](fill=0)
        comptime for t in range(T):
            factors[t] = self.x.unsafe_load[width=W](t * self.x_stride + k)
        comptime for r in range(R):
            var row = self.weight.unsafe_load[width=W](r * self.K + k)
            comptime if prefetches:
                prefetch_l2(self.weight.unsafe_offset((r + R) * self.K + k))
            comptime for t in range(T):
                sums[t * R + r] = row.fma(factors[t], sums[t * R + r])
