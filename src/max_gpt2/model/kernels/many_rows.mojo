"""Many rows of x times w: what takes the time is arithmetic, so what is multiplied lies as near as it can.

The plan is that of Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication": rows of x that fit
the core's second cache, a panel of w beside them, and a tile of sums that stays in registers. The first tile of a
panel takes it from where the weights lie and lays it out for the others on the way, which costs nothing.
"""

from std.math import align_up, ceildiv
from std.memory import unsafe_memset_zero
from std.memory.alloc import unsafe_alloc

from .activations import activate
from .floats import F, Floats, MANY_REGISTERS, MutFloats, Vector, W, fetch, fetch_near
from .turn import DEPTH, PANEL, Turn

#: How many rows of x a tile has.
comptime TILE = 12 if MANY_REGISTERS else 6
#: The last tile has this many rows, or twice, or three times as many.
comptime THIRD = TILE // 3
#: How many rows of x are laid out at a time: they fit a second cache of 512 KiB with room to spare.
comptime TALL = 22 * TILE
#: The distance between rows of x once they are laid out: not a power of two, since these fall on each other in a cache.
comptime LINE = DEPTH + 16


def many_rows[
    activation: StaticString
](x: Floats, w: Floats, bias: Floats, y: MutFloats, M: Int, K: Int, N: Int, first: Int, last: Int):
    """Compute the columns [first, last) of y, [M, N], from x, [M, K], and w, [K, N]."""
    var tall = align_up(ceildiv(M, ceildiv(M, TALL)), TILE)
    var lines = unsafe_alloc[Scalar[F]](tall * LINE)
    var panel = unsafe_alloc[Scalar[F]](DEPTH * PANEL)
    for top in range(0, M, tall):
        var rows = min(tall, M - top)
        for k in range(0, K, DEPTH):
            var depth = min(DEPTH, K - k)
            var turn = Turn(k == 0, k + depth == K)
            var then = 0 if turn.last and top + tall < M else k + depth  # where w goes on after the last panel
            _lay_out_x(x.unsafe_offset(top * K + k), lines, K, rows, depth)
            for c in range(first, last, PANEL):
                var count = min(PANEL, last - c)
                var here = w.unsafe_offset(k * N + c)
                var next = PANEL if c + PANEL < last else (then - k) * N + first - c
                var more = bias.unsafe_offset(c)
                var to = y.unsafe_offset(top * N + c)
                _tiles[activation](lines, here, next, panel, more, to, N, rows, depth, count, turn)
    lines.unsafe_free()
    panel.unsafe_free()


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


@always_inline
def _tiles[
    activation: StaticString
](
    lines: Floats,
    w: Floats,
    next: Int,
    panel: MutFloats,
    bias: Floats,
    y: MutFloats,
    N: Int,
    rows: Int,
    depth: Int,
    count: Int,
    turn: Turn,
):
    """Add what is laid out, times a panel of w, to y, [rows, count]; ask for the panel that is `next` to it."""
    var tiles = ceildiv(rows, TILE)
    if count < PANEL:
        for k in range(depth):
            for c in range(PANEL):
                panel.unsafe_store(k * PANEL + c, w.unsafe_load(k * N + c) if c < count else 0)
    for t in range(tiles):
        # The next panel is asked for shortly before it is needed, by three tiles, line by line: in a file, a row of it
        # does not begin where a line does, and a number may lie in two of them.
        var nth = t - max(0, tiles - 4)
        var line = next + nth * W
        var pace = N if 0 <= nth < 3 else 0
        var m = t * TILE
        var rest = min(TILE, rows - m)

        def tile[T: Int, lays_out: Bool]() {var}:
            var x = lines.unsafe_offset(m * LINE)
            var to = y.unsafe_offset(m * N)
            _tile[activation, T, lays_out](x, w, line, pace, panel, bias, to, N, depth, rest, count, turn)

        if m == 0 and count == PANEL:
            tile[TILE, True]()
        elif rest > 2 * THIRD:
            tile[TILE, False]()
        elif rest > THIRD:
            tile[2 * THIRD, False]()
        else:
            tile[THIRD, False]()


def _tile[
    activation: StaticString, T: Int, lays_out: Bool
](
    lines: Floats,
    w: Floats,
    line: Int,
    pace: Int,
    panel: MutFloats,
    bias: Floats,
    y: MutFloats,
    N: Int,
    depth: Int,
    rows: Int,
    count: Int,
    turn: Turn,
):
    """Add one tile of T rows to y, [rows, count]; ask for `depth` places of w, from `line` on and `pace` apart.

    A place for each row of w and no more: a core that asks for many at a time waits for all of them. With `lays_out`, w
    is laid out as the panel meanwhile.
    """
    var left = Array[Vector, T](fill=0)
    var right = Array[Vector, T](fill=0)
    comptime for m in range(T):
        fetch_near(y.unsafe_offset(m * N))
        fetch_near(y.unsafe_offset(m * N + W))
    for k in range(depth):
        var of_left: Vector
        var of_right: Vector
        fetch(w.unsafe_offset(line + k * pace))
        comptime if lays_out:
            of_left = w.unsafe_load[width=W](k * N)
            of_right = w.unsafe_load[width=W](k * N + W)
            panel.unsafe_store(k * PANEL, of_left)
            panel.unsafe_store(k * PANEL + W, of_right)
        else:
            of_left = panel.unsafe_load[width=W](k * PANEL)
            of_right = panel.unsafe_load[width=W](k * PANEL + W)
        comptime for m in range(T):
            var factor = Vector(lines.unsafe_load(m * LINE + k))
            left[m] = of_left.fma(factor, left[m])
            right[m] = of_right.fma(factor, right[m])
    if rows < T or count < PANEL:
        comptime for m in range(T):
            if m < rows:
                turn.add[activation](bias, y.unsafe_offset(m * N), left[m], count)
                if count > W:
                    turn.add[activation](bias.unsafe_offset(W), y.unsafe_offset(m * N + W), right[m], count - W)
        return
    comptime for m in range(T):
        var before = bias if turn.first else y.unsafe_offset(m * N)
        left[m] += before.unsafe_load[width=W](0)
        right[m] += before.unsafe_load[width=W](W)
    if turn.last:
        comptime for m in range(T):
            left[m] = activate[activation](left[m])
            right[m] = activate[activation](right[m])
    comptime for m in range(T):
        y.unsafe_store(m * N, left[m])
        y.unsafe_store(m * N + W, right[m])
