"""Not many rows of x times w: the weights come from memory once, where they lie, while their products are computed.

Some rows of w are held in registers at a time, and what all rows of x make of them is added to sums that stay in the
core's first cache. So each number of w is loaded once, and is asked for before it is needed.
"""

from std.math import align_up, ceildiv
from std.memory import unsafe_memset_zero
from std.memory.alloc import unsafe_alloc

from .floats import F, Floats, MANY_REGISTERS, MutFloats, Vector, W, fetch
from .rows import Rows
from .turn import DEPTH, PANEL, Turn

#: The most rows of x for which this is the faster way.
comptime FEW = 28
#: How many rows of w are held in registers.
comptime GROUP = 8 if MANY_REGISTERS else 4
#: How many sums there are at a time: they take three quarters of a first cache of 32 KiB.
comptime SUMS = 6144


def few_rows[
    activation: StaticString
](x: Rows, w: Floats, bias: Floats, y: Rows, M: Int, K: Int, N: Int, first: Int, last: Int):
    """Compute the columns [first, last) of y, [M, N], from x, [M, K], and w, [K, N]."""
    var passes = ceildiv((last - first) * M, SUMS)
    var wide = align_up(ceildiv(last - first, passes), PANEL)
    var sums = unsafe_alloc[Scalar[F]](M * wide)
    var lines = unsafe_alloc[Scalar[F]](M * DEPTH)
    for k in range(0, K, DEPTH):
        var depth = min(DEPTH, K - k)
        var turn = Turn(k == 0, k + depth == K)
        _lay_out(x.at(0, k), x.apart, lines, M, depth)
        for start in range(first, last, wide):
            var count = min(wide, last - start)
            unsafe_memset_zero(sums, M * wide)
            _multiply(lines, w.unsafe_offset(k * N + start), sums, N, M, depth, count)
            _add[activation](sums, bias.unsafe_offset(start), y, start, M, count, turn)
    sums.unsafe_free()
    lines.unsafe_free()


@always_inline
def _lay_out(x: Floats, apart: Int, lines: MutFloats, rows: Int, depth: Int):
    """[rows, depth] of x, into groups [rows, GROUP], one for each group of rows of w; what is left is [rest, rows]."""
    var k = 0
    while k + GROUP <= depth:
        for m in range(rows):
            lines.unsafe_store(k * rows + m * GROUP, x.unsafe_load[width=GROUP](m * apart + k))
        k += GROUP
    while k < depth:
        for m in range(rows):
            lines.unsafe_store(k * rows + m, x.unsafe_load(m * apart + k))
        k += 1


@always_inline
def _multiply(lines: Floats, w: Floats, sums: MutFloats, N: Int, rows: Int, depth: Int, count: Int):
    """Add to the sums what is laid out, times [depth, count] of w."""
    var k = 0
    while k + GROUP <= depth:
        _multiply_group[GROUP](lines.unsafe_offset(k * rows), w.unsafe_offset(k * N), sums, N, rows, count)
        k += GROUP
    while k < depth:
        _multiply_group[1](lines.unsafe_offset(k * rows), w.unsafe_offset(k * N), sums, N, rows, count)
        k += 1


@always_inline
def _multiply_group[G: Int](x: Floats, w: Floats, sums: MutFloats, N: Int, rows: Int, count: Int):
    """Add x, [rows, G], times [G, count] of w; the sums are in panels [rows, PANEL], one after another."""
    var c = 0
    while c + PANEL <= count:
        var left = Array[Vector, G](fill=0)
        var right = Array[Vector, G](fill=0)
        comptime for g in range(G):
            var at = w.unsafe_offset(g * N + c)
            left[g] = at.unsafe_load[width=W](0)
            right[g] = at.unsafe_load[width=W](W)
            fetch(at.unsafe_offset(G * N))
            fetch(at.unsafe_offset(G * N + W))
        var panel = sums.unsafe_offset(c * rows)
        for m in range(rows):
            var sum_left = panel.unsafe_load[width=W](m * PANEL)
            var sum_right = panel.unsafe_load[width=W](m * PANEL + W)
            comptime for g in range(G):
                var factor = Vector(x.unsafe_load(m * G + g))
                sum_left = left[g].fma(factor, sum_left)
                sum_right = right[g].fma(factor, sum_right)
            panel.unsafe_store(m * PANEL, sum_left)
            panel.unsafe_store(m * PANEL + W, sum_right)
        c += PANEL
    var panel = sums.unsafe_offset(c * rows)
    var rest = count - c
    for m in range(rows):
        for i in range(rest):
            var sum = panel.unsafe_load(m * PANEL + i)
            comptime for g in range(G):
                sum = w.unsafe_load(g * N + c + i).fma(x.unsafe_load(m * G + g), sum)
            panel.unsafe_store(m * PANEL + i, sum)


@always_inline
def _add[
    activation: StaticString
](sums: Floats, bias: Floats, y: Rows, start: Int, rows: Int, count: Int, turn: Turn):
    """Add the sums to `count` columns of y, from `start` on."""
    for c in range(0, count, W):
        var panel = sums.unsafe_offset(c // PANEL * PANEL * rows + c % PANEL)
        for m in range(rows):
            var sum = panel.unsafe_load[width=W](m * PANEL)
            turn.add[activation](bias.unsafe_offset(c), y.at(m, start + c), sum, count - c)
