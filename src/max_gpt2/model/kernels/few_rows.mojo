"""Not many rows of x times w: the weights come from memory once, where they lie, while their products are computed.

Some rows of w are held in registers at a time, and what all rows of x make of them is added to sums that stay in the
core's first cache. So each number of w is loaded once, and most are asked for before they are needed.

A core reads fastest what lies in one piece. So the threads do not share the columns of w but what lies in w one behind
the other: slices of `DEPTH` rows, and only what is left of a slice by its columns. Each slice has sums of its own; they
are added up when all are there.
"""

from std.math import ceildiv
from std.memory import unsafe_memset_zero
from std.memory.alloc import unsafe_alloc

from .activations import activate
from .floats import F, Floats, HeldFloats, MANY_REGISTERS, MutFloats, Vector, W, fetch, load_part, store_part
from .rows import Rows
from .turn import DEPTH, PANEL

#: The most rows of x for which this is the faster way.
comptime FEW = 28
#: How many rows of w are held in registers.
comptime GROUP = 8 if MANY_REGISTERS else 4
#: For so few rows of x nothing is done but wait for w. It comes faster when it is not asked for besides, unless `GROUP`
#: is small.
comptime UNASKED = 2 if MANY_REGISTERS else 0
#: How many sums there are at a time: they take three quarters of a first cache of 32 KiB.
comptime SUMS = 6144


@fieldwise_init
struct Sums(TrivialRegisterPassable):
    """Room for the sums of each slice of w, [K, N], for the columns [first, last): slices of panels of M rows."""

    var room: HeldFloats
    var M: Int
    var K: Int
    var first: Int
    var last: Int

    @staticmethod
    def size(M: Int, K: Int, columns: Int) -> Int:
        """How many numbers there is room for: none where rows are not few."""
        return M * PANEL * ceildiv(K, DEPTH) * ceildiv(columns, PANEL) if M <= FEW else 0

    @always_inline
    def slices(self) -> Int:
        """How many slices there are."""
        return ceildiv(self.K, DEPTH)

    @always_inline
    def panels(self) -> Int:
        """How many panels a slice has."""
        return ceildiv(self.last - self.first, PANEL)

    @always_inline
    def panel(self, number: Int) -> HeldFloats:
        """Where a panel is, of all slices together."""
        return self.room.unsafe_offset(number * self.M * PANEL)


def few_rows(x: Rows, w: Floats, sums: Sums, N: Int, begin: Int, end: Int):
    """Compute the panels [begin, end) of the sums, of all slices together, from x, [M, K], and w, [K, N]."""
    var M = sums.M
    var panels = sums.panels()
    var lines = unsafe_alloc[Scalar[F]](M * DEPTH)
    var at = begin
    while at < end:
        var slice = at // panels
        var stop = min((slice + 1) * panels, end)
        var k = slice * DEPTH
        var depth = min(DEPTH, sums.K - k)
        _lay_out(x.at(0, k), x.apart, lines, M, depth)
        var passes = ceildiv((stop - at) * PANEL * M, SUMS)
        var wide = ceildiv(stop - at, passes)
        while at < stop:
            var some = min(wide, stop - at)
            var c = sums.first + (at - slice * panels) * PANEL
            unsafe_memset_zero(sums.panel(at), some * PANEL * M)
            _multiply(
                lines, w.unsafe_offset(k * N + c), sums.panel(at), N, M, depth, min(some * PANEL, sums.last - c)
            )
            at += some
    lines.unsafe_free()


def add_slices[
    activation: StaticString, onto: Bool
](sums: Sums, bias: Floats, before: Rows, y: Rows, begin: Int, end: Int):
    """Add up the panels [begin, end) of all slices in y, [M, N], as `Turn` says, and with `onto` what was `before`."""
    for panel in range(begin, end):
        for half in range(2):
            var c = sums.first + panel * PANEL + half * W
            var count = sums.last - c
            if count <= 0:
                break
            for m in range(sums.M):
                var value = load_part(bias.unsafe_offset(c), count)
                for slice in range(sums.slices()):
                    var sum = sums.panel(slice * sums.panels() + panel)
                    value = sum.unsafe_load[width=W](m * PANEL + half * W) + value
                value = activate[activation](value)
                comptime if onto:
                    value = load_part(before.at(m, c), count) + value
                store_part(y.at(m, c), value, count)


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
        if rows <= UNASKED:
            _multiply_group[GROUP, False](lines.unsafe_offset(k * rows), w.unsafe_offset(k * N), sums, N, rows, count)
        else:
            _multiply_group[GROUP, True](lines.unsafe_offset(k * rows), w.unsafe_offset(k * N), sums, N, rows, count)
        k += GROUP
    while k < depth:
        _multiply_group[1, False](lines.unsafe_offset(k * rows), w.unsafe_offset(k * N), sums, N, rows, count)
        k += 1


@always_inline
def _multiply_group[G: Int, ask: Bool](x: Floats, w: Floats, sums: MutFloats, N: Int, rows: Int, count: Int):
    """Add x, [rows, G], times [G, count] of w; the sums are in panels [rows, PANEL], one after another."""
    var c = 0
    while c + PANEL <= count:
        var left = Array[Vector, G](fill=0)
        var right = Array[Vector, G](fill=0)
        comptime for g in range(G):
            var at = w.unsafe_offset(g * N + c)
            left[g] = at.unsafe_load[width=W](0)
            right[g] = at.unsafe_load[width=W](W)
            comptime if ask:
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
