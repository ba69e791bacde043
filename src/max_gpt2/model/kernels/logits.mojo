"""The language-model head, x @ weight.T, with weight [vocab, n_embd] as in the token embedding.

A logit is the dot product of two rows. Its sum runs along the rows in W lanes, one chain of multiply-adds each, so a
logit is bitwise identical regardless of the rest of the batch.
"""

import extensibility
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from max.runtime.asyncrt import parallelism_level
from std.math import align_up, ceildiv

from .matrix import BLOCK_ROW, Matrix
from .tuning import HEAD_R, HEAD_T, HEAD_UNROLL, KC, LOGITS_ACCUMULATORS, LOGITS_ROWS, LOGITS_TOKENS
from .types import F32, FloatTensor2D, ResultTensor2D, UntrackedFloats, Vector, W, prefetch_l2, untracked


@extensibility.register("gpt2.logits")
struct Logits:
    """Compute logits: x [tokens, n_embd], weight [vocab, n_embd] -> [tokens, vocab]."""

    @staticmethod
    def execute[
        target: StaticString
    ](y: ResultTensor2D, x: FloatTensor2D, weight: FloatTensor2D, ctx: DeviceContext) raises:
        var M = x.dim_size(0)
        var K = weight.dim_size(1)
        var N = weight.dim_size(0)
        debug_assert[assert_mode="safe"](x.dim_size(1) == K, "x is not [tokens, n_embd] of weight [vocab, n_embd]")
        debug_assert[assert_mode="safe"](y.dim_size(0) == M and y.dim_size(1) == N, "y is not [tokens, vocab]")
        var x_ptr = untracked(x.unsafe_ptr())
        var head = Head(x_ptr, untracked(weight.unsafe_ptr()), untracked(y.unsafe_ptr()), K, N)
        var share = align_up(ceildiv(N, parallelism_level(None)), LOGITS_ROWS)  # of the vocabulary, for a thread

        def compute(thread: Int) {var}:
            var last = min((thread + 1) * share, N)
            for n in range(thread * share, last, LOGITS_ROWS):
                head.columns(M, n, min(n + LOGITS_ROWS, last))

        sync_parallelize(compute, ceildiv(N, share))


@fieldwise_init
struct Head(TrivialRegisterPassable):
    """A view of the operands of the head that starts at one token and one row of the weight."""

    var x: UntrackedFloats  # [M, K]
    var weight: UntrackedFloats  # [N, K]
    var y: UntrackedFloats  # [M, N], rows `y_stride` apart
    var K: Int
    var y_stride: Int

    @always_inline
    def at(self, m: Int, n: Int) -> Self:
        """Return the view that starts `m` tokens and `n` rows of the weight further."""
        return Self(
            self.x.unsafe_offset(m * self.K),
            self.weight.unsafe_offset(n * self.K),
            self.y.unsafe_offset(m * self.y_stride + n),
            self.K,
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
    def tile[T: Int, R: Int](self):
        """Compute y, [T, R]: the dot products of T rows of x and R rows of the weight."""
        var K = self.K
        var sums = Array[Vector, T * R](fill=0)  # [T, R, W]
        var k = 0
        while k + W <= K:
            var factors = Array[Vector, T](fill=0)
            comptime for t in range(T):
                factors[t] = self.x.unsafe_load[width=W](t * K + k)
            comptime for r in range(R):
                var row = self.weight.unsafe_load[width=W](r * K + k)
                prefetch_l2(self.weight.unsafe_offset((r + R) * K + k))
                comptime for t in range(T):
                    sums[t * R + r] = row.fma(factors[t], sums[t * R + r])
            k += W
        comptime for t in range(T):
            comptime for r in range(R):
                var sum = sums[t * R + r].reduce_add()
                for rest in range(k, K):
                    sum = self.weight.unsafe_load(r * K + rest).fma(self.x.unsafe_load(t * K + rest), sum)
                self.y.unsafe_store(t * self.y_stride + r, sum)


@fieldwise_init
struct HeadBlock(TrivialRegisterPassable):
    """A block of tokens and a chunk of rows of the weight, multiplied in blocks of KC columns.

    The lane sums of all dot products are kept in memory between two blocks of columns, so that x, [tokens, KC], stays
    in the L1 cache while the rows of the weight pass by. The order of the additions is that of `Head.tile`.

        for each KC columns                    x [HEAD_TOKENS, KC]: in L1
          for each HEAD_R rows of the weight     [HEAD_R, KC]: from L2 once
            for each HEAD_T tokens                 tile [HEAD_T, HEAD_R] of lane sums in registers
    """

    var x: Matrix  # [tokens, K], blocked
    var weight: UntrackedFloats  # [rows, K]
    var lanes: UntrackedFloats  # [HEAD_TOKENS, LOGITS_ROWS, W]
    var K: Int

    def logits(self, tokens: Int, rows: Int, y: UntrackedFloats):
        """Compute the logits y, [tokens, rows], with the rows of y LOGITS_ROWS apart."""
        var whole = self.K // W * W
        for k in range(0, whole, KC):
            self.add_columns(k, min(KC, whole - k), tokens, rows)
        for t in range(tokens):
            for r in range(rows):
                var sum = Scalar[F32](0)
                if whole:
                    sum = self.lanes.unsafe_load[width=W]((t * LOGITS_ROWS + r) * W).reduce_add()
                for k in range(whole, self.K):
                    sum = self.weight.unsafe_load(r * self.K + k).fma(self.x.ptr(t, k).unsafe_load(0), sum)
                y.unsafe_store(t * LOGITS_ROWS + r, sum)

    @always_inline
    def add_columns(self, k: Int, depth: Int, tokens: Int, rows: Int):
        """Add the products of the columns [k, k + depth) to the lane sums."""
        var r = 0
        while r + HEAD_R <= rows:
            self.add_rows[HEAD_R](k, depth, tokens, r)
            r += HEAD_R
        while r < rows:
            self.add_rows[1](k, depth, tokens, r)
            r += 1

    @always_inline
    def add_rows[R: Int](self, k: Int, depth: Int, tokens: Int, r: Int):
        var t = 0
        while t + HEAD_T <= tokens:
            self.tile[HEAD_T, R](k, depth, t, r)
            t += HEAD_T
        while t < tokens:
            self.tile[1, R](k, depth, t, r)
            t += 1

    @always_inline
    def tile[T: Int, R: Int](self, k: Int, depth: Int, t: Int, r: Int):
        """Add the products of T tokens and R rows of the weight over the columns [k, k + depth)."""
        var x = self.x.ptr(t, k)
        var w = self.weight.unsafe_offset(r * self.K + k)
        var lanes = self.lanes.unsafe_offset((t * LOGITS_ROWS + r) * W)
        var sums = Array[Vector, T * R](fill=0)  # [T, R, W]
        if k:
            comptime for i in range(T * R):
                sums[i] = lanes.unsafe_load[width=W]((i // R * LOGITS_ROWS + i % R) * W)
        var i = 0
        while i + HEAD_UNROLL * W <= depth:
            comptime for u in range(HEAD_UNROLL):
                self.multiply[T, R](x.unsafe_offset(i + u * W), w.unsafe_offset(i + u * W), sums)
            i += HEAD_UNROLL * W
        while i < depth:
            self.multiply[T, R](x.unsafe_offset(i), w.unsafe_offset(i), sums)
            i += W
        comptime for i in range(T * R):
            lanes.unsafe_store((i // R * LOGITS_ROWS + i % R) * W, sums[i])

    @always_inline
    def multiply[T: Int, R: Int](self, x: UntrackedFloats, w: UntrackedFloats, mut sums: Array[Vector, T * R]):
        """Add the products of W columns to the lane sums, [T, R, W]."""
        var factors = Array[Vector, T](fill=0)
        comptime for m in range(T):
            factors[m] = x.unsafe_load[width=W](m * BLOCK_ROW)
        comptime for n in range(R):
            var row = w.unsafe_load[width=W](n * self.K)
            comptime for m in range(T):
                sums[m * R + n] = row.fma(factors[m], sums[m * R + n])
