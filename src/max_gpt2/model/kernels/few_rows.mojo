"""A few rows of x times w: the weights come from memory once, row by row, and that is what takes the time."""

from std.math import align_up, ceildiv
from std.memory import unsafe_memset_zero
from std.memory.alloc import unsafe_alloc

from .activations import activate
from .floats import F, Floats, MANY_REGISTERS, MutFloats, Vector, W, fetch, load_part, store_part
from .many_rows import DEPTH, PANEL

#: The most rows that are computed this way.
comptime FEW = 32 if MANY_REGISTERS else 16
#: How many rows of w are added in one go, each of them a stream for the processor's prefetcher.
comptime GROUP = 8 if MANY_REGISTERS else 4
#: How many sums are kept at a time: they should stay in a core's own cache.
comptime SUMS = 16384


def few_rows[
    activation: StaticString
](x: Floats, w: Floats, bias: Floats, y: MutFloats, M: Int, K: Int, N: Int, first: Int, last: Int):
    """Compute the columns [first, last) of y, [M, N], from x, [M, K], and w, [K, N]."""
    var passes = ceildiv((last - first) * M, SUMS)
    var stride = align_up(ceildiv(last - first, passes), PANEL)
    var sums = unsafe_alloc[Scalar[F]](M * stride)
    for start in range(first, last, stride):
        var count = min(stride, last - start)
        _some[activation](
            x, w.unsafe_offset(start), bias.unsafe_offset(start), y.unsafe_offset(start), sums, M, K, N, count, stride
        )
    sums.unsafe_free()


@always_inline
def _some[
    activation: StaticString
](
    x: Floats,
    w: Floats,
    bias: Floats,
    y: MutFloats,
    sums: MutFloats,
    M: Int,
    K: Int,
    N: Int,
    count: Int,
    stride: Int,
):
    """The first `count` columns of w, bias and y."""
    for m in range(M):
        for c in range(count):
            y.unsafe_store(m * N + c, bias.unsafe_load(c))
    for start in range(0, K, DEPTH):
        var end = min(start + DEPTH, K)
        unsafe_memset_zero(sums, M * stride)
        var k = start
        while k + GROUP <= end:
            if M > 1:
                _add_group[GROUP, True](x, w, sums, M, K, N, count, stride, k)
            else:  # with one row there is nothing to compute meanwhile, and the processor fetches by itself
                _add_group[GROUP, False](x, w, sums, M, K, N, count, stride, k)
            k += GROUP
        while k < end:
            _add_group[1, False](x, w, sums, M, K, N, count, stride, k)
            k += 1
        for m in range(M):
            for c in range(count):
                var i = m * N + c
                y.unsafe_store(i, y.unsafe_load(i) + sums.unsafe_load(m * stride + c))
    comptime if activation != "none":
        for m in range(M):
            for c in range(0, count, W):
                var to = y.unsafe_offset(m * N + c)
                store_part(to, activate[activation](load_part(to, count - c)), count - c)


@always_inline
def _add_group[
    G: Int, ahead: Bool
](x: Floats, w: Floats, sums: MutFloats, M: Int, K: Int, N: Int, count: Int, stride: Int, k: Int):
    """Add x[:, k : k + G] @ w[k : k + G] to the sums; with `ahead`, ask for the next rows of w."""
    var c = 0
    while c + 2 * W <= count:
        var left = Array[Vector, G](fill=0)
        var right = Array[Vector, G](fill=0)
        comptime for g in range(G):
            var at = (k + g) * N + c
            left[g] = w.unsafe_load[width=W](at)
            right[g] = w.unsafe_load[width=W](at + W)
            comptime if ahead:
                fetch(w.unsafe_offset(at + G * N))
                fetch(w.unsafe_offset(at + G * N + W))
        for m in range(M):
            var sum_left = sums.unsafe_load[width=W](m * stride + c)
            var sum_right = sums.unsafe_load[width=W](m * stride + c + W)
            comptime for g in range(G):
                var factor = Vector(x.unsafe_load(m * K + k + g))
                sum_left = left[g].fma(factor, sum_left)
                sum_right = right[g].fma(factor, sum_right)
            sums.unsafe_store(m * stride + c, sum_left)
            sums.unsafe_store(m * stride + c + W, sum_right)
        c += 2 * W
    while c < count:
        for m in range(M):
            var sum = sums.unsafe_load(m * stride + c)
            comptime for g in range(G):
                sum = w.unsafe_load((k + g) * N + c).fma(x.unsafe_load(m * K + k + g), sum)
            sums.unsafe_store(m * stride + c, sum)
        c += 1
