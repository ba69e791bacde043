"""Many rows of x times w: what takes the time is arithmetic, so parts of both are laid out for it first.

The plan is that of Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication": a part of w that
fits the core's second cache, in panels of which one fits the first, and a tile of sums that stays in registers.
"""

from std.memory import unsafe_memset_zero
from std.memory.alloc import unsafe_alloc

from .floats import F, Floats, MANY_REGISTERS, MutFloats, Vector, W, fetch
from .turn import DEPTH, PANEL, Turn

#: How many rows of x a tile has.
comptime TILE = 12 if MANY_REGISTERS else 6
#: The last tile has this many rows, or twice, or three times as many.
comptime THIRD = TILE // 3
#: How many columns of w and rows of x are laid out at a time.
comptime WIDE = 256
comptime TALL = 20 * TILE
#: The distance between rows of x once they are laid out: not a power of two, since these fall on each other in a cache.
comptime LINE = DEPTH + 16
#: How many rows of w ahead are asked for while it is laid out.
comptime AHEAD = 8


def many_rows[
    activation: StaticString
](x: Floats, w: Floats, bias: Floats, y: MutFloats, M: Int, K: Int, N: Int, first: Int, last: Int):
    """Compute the columns [first, last) of y, [M, N], from x, [M, K], and w, [K, N]."""
    var panels = unsafe_alloc[Scalar[F]](DEPTH * WIDE)
    var lines = unsafe_alloc[Scalar[F]](TALL * LINE)
    for start in range(first, last, WIDE):
        var count = min(WIDE, last - start)
        for k in range(0, K, DEPTH):
            var depth = min(DEPTH, K - k)
            var turn = Turn(k == 0, k + depth == K)
            _lay_out_w(w.unsafe_offset(k * N + start), panels, N, depth, count)
            var following = w.unsafe_offset((k + depth) * N + start if k + depth < K else start + WIDE)
            for top in range(0, M, TALL):
                var rows = min(TALL, M - top)
                var to = y.unsafe_offset(top * N + start)
                _lay_out_x(x.unsafe_offset(top * K + k), lines, K, rows, depth)
                _tiles[activation](
                    lines, panels, bias.unsafe_offset(start), to, following, N, rows, depth, count, top == 0, turn
                )
    panels.unsafe_free()
    lines.unsafe_free()


def _lay_out_w(w: Floats, panels: MutFloats, N: Int, depth: Int, count: Int):
    """[depth, count] of w, into panels [depth, PANEL] of which the last is filled up with zeros."""
    var whole = count // PANEL * PANEL
    for k in range(depth):
        for c in range(0, whole, PANEL):
            var to = c * depth + k * PANEL
            comptime for part in range(0, PANEL, W):
                fetch(w.unsafe_offset((k + AHEAD) * N + c + part))
                panels.unsafe_store(to + part, w.unsafe_load[width=W](k * N + c + part))
        if whole < count:
            for part in range(PANEL):
                var c = whole + part
                panels.unsafe_store(whole * depth + k * PANEL + part, w.unsafe_load(k * N + c) if c < count else 0)


def _lay_out_x(x: Floats, lines: MutFloats, K: Int, rows: Int, depth: Int):
    """[rows, depth] of x, into lines that are near each other; the last tile is filled up with zeros."""
    for m in range(rows):
        var k = 0
        while k + W <= depth:
            lines.unsafe_store(m * LINE + k, x.unsafe_load[width=W](m * K + k))
            k += W
        while k < depth:
            lines.unsafe_store(m * LINE + k, x.unsafe_load(m * K + k))
            k += 1
    var rest = rows % TILE
    if rest:
        unsafe_memset_zero(lines.unsafe_offset(rows * LINE), (TILE - rest) * LINE)


def _tiles[
    activation: StaticString
](
    lines: Floats,
    panels: Floats,
    bias: Floats,
    y: MutFloats,
    following: Floats,
    N: Int,
    rows: Int,
    depth: Int,
    count: Int,
    ahead: Bool,
    turn: Turn,
):
    """Add what is laid out to y, [rows, count]; with `ahead`, ask meanwhile for the part of w that is next."""
    for c in range(0, count, PANEL):
        for m in range(0, rows, TILE):
            var rest = min(TILE, rows - m)

            def tile[T: Int, fetches: Bool]() {var}:
                var x = lines.unsafe_offset(m * LINE)
                var w = panels.unsafe_offset(c * depth)
                var more = bias.unsafe_offset(c)
                var to = y.unsafe_offset(m * N + c)
                var next = following.unsafe_offset(c)
                _tile[activation, T, fetches](x, w, more, to, next, N, depth, rest, min(PANEL, count - c), turn)

            if m == 0 and ahead:
                tile[TILE, True]()
            elif rest > 2 * THIRD:
                tile[TILE, False]()
            elif rest > THIRD:
                tile[2 * THIRD, False]()
            else:
                tile[THIRD, False]()


def _tile[
    activation: StaticString, T: Int, fetches: Bool
](
    lines: Floats,
    panel: Floats,
    bias: Floats,
    y: MutFloats,
    following: Floats,
    N: Int,
    depth: Int,
    rows: Int,
    count: Int,
    turn: Turn,
):
    """Add one tile of T rows to y, [rows, count]."""
    var left = Array[Vector, T](fill=0)
    var right = Array[Vector, T](fill=0)
    for k in range(depth):
        comptime if fetches:
            fetch(following.unsafe_offset(k * N))
            fetch(following.unsafe_offset(k * N + W))
        var panel_left = panel.unsafe_load[width=W](k * PANEL)
        var panel_right = panel.unsafe_load[width=W](k * PANEL + W)
        comptime for m in range(T):
            var factor = Vector(lines.unsafe_load(m * LINE + k))
            left[m] = panel_left.fma(factor, left[m])
            right[m] = panel_right.fma(factor, right[m])
    comptime for m in range(T):
        if m < rows:
            turn.add[activation](bias, y.unsafe_offset(m * N), left[m], count)
            if count > W:
                turn.add[activation](bias.unsafe_offset(W), y.unsafe_offset(m * N + W), right[m], count - W)
