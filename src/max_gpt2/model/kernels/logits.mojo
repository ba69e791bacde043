"""The head: x @ w.T with w as the table of tokens has it, [vocab, n_embd]. A logit is the product of two rows.

The sum goes along the rows in vectors, one chain each, so that a logit has the same bits whatever else is computed.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from max.runtime.asyncrt import parallelism_level
from std.math import align_up, ceildiv

from .floats import Floats, MANY_REGISTERS, MutFloats, Vector, W, fetch

#: How many tokens' logits are computed from the same rows of w: their sums stay in registers.
comptime TOKENS = 8 if MANY_REGISTERS else 4
#: How many sums there are at a time.
comptime SUMS = 24 if MANY_REGISTERS else 8
#: So many rows of w stay in a core's own cache while all tokens pass by.
comptime BLOCK = 64


@extensibility.register("gpt2.logits")
struct Logits:
    """[tokens, n_embd], [vocab, n_embd] -> [tokens, vocab]."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=2, ...],
        x: InputTensor[dtype=DType.float32, rank=2, ...],
        w: InputTensor[dtype=DType.float32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        _logits(x.unsafe_ptr(), w.unsafe_ptr(), y.unsafe_ptr(), x.dim_size(0), w.dim_size(1), w.dim_size(0))


def _logits(x: Floats, w: Floats, y: MutFloats, M: Int, K: Int, N: Int):
    var share = align_up(ceildiv(N, parallelism_level(None)), BLOCK)

    def words(thread: Int) {var}:
        var last = min((thread + 1) * share, N)
        for start in range(thread * share, last, BLOCK):
            _block(x, w, y, M, K, N, start, min(start + BLOCK, last))

    sync_parallelize(words, ceildiv(N, share))


def _block(x: Floats, w: Floats, y: MutFloats, M: Int, K: Int, N: Int, first: Int, last: Int):
    """The columns [first, last) of y."""
    for m in range(0, M, TOKENS):
        var tokens = min(TOKENS, M - m)
        comptime for T in range(1, TOKENS + 1):
            if T == tokens:
                _columns[T](x.unsafe_offset(m * K), w, y.unsafe_offset(m * N), K, N, first, last)


@always_inline
def _columns[T: Int](x: Floats, w: Floats, y: MutFloats, K: Int, N: Int, first: Int, last: Int):
    comptime TOGETHER = min(8, SUMS // T)  # as many rows as there are sums for
    var n = first
    while n + TOGETHER <= last:
        _tile[T, TOGETHER](x, w.unsafe_offset(n * K), y.unsafe_offset(n), K, N)
        n += TOGETHER
    while n < last:
        _tile[T, 1](x, w.unsafe_offset(n * K), y.unsafe_offset(n), K, N)
        n += 1


@always_inline
def _tile[T: Int, R: Int](x: Floats, w: Floats, y: MutFloats, K: Int, N: Int):
    """The products of T rows of x and R rows of w."""
    var sums = Array[Vector, T * R](fill=0)
    var k = 0
    while k + W <= K:
        var factors = Array[Vector, T](fill=0)
        comptime for t in range(T):
            factors[t] = x.unsafe_load[width=W](t * K + k)
        comptime for r in range(R):
            var row = w.unsafe_load[width=W](r * K + k)
            fetch(w.unsafe_offset((r + R) * K + k))
            comptime for t in range(T):
                sums[t * R + r] = row.fma(factors[t], sums[t * R + r])
        k += W
    comptime for t in range(T):
        comptime for r in range(R):
            var sum = sums[t * R + r].reduce_add()
            for rest in range(k, K):
                sum = w.unsafe_load(r * K + rest).fma(x.unsafe_load(t * K + rest), sum)
            y.unsafe_store(t * N + r, sum)
