"""Many rows of x times w: what takes the time is arithmetic, so what is multiplied lies as near as it can.

The plan is that of Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication": rows of x that fit
the core's second cache, a panel of w beside them, and a tile of sums that stays in registers. The first tile of a
panel takes it from where the weights lie and lays it out for the others on the way, which costs nothing. Rows of x are
where who made them put them: see `sliced_rows`.

What is needed next is asked for line by line, one for each row of w: a core that asks for many at a time waits for all
of them. That holds for what is written, too: a store waits for its line.
"""

from std.math import align_up, ceildiv
from std.memory.alloc import unsafe_alloc

from .activations import activate
from .floats import F, Floats, HeldFloats, MANY_REGISTERS, MutFloats, Vector, W
from .floats import fetch, held, load_part, store_part
from .rows import LINE, Rows, SLICED, sliced_rows, sliced_size
from .turn import DEPTH, PANEL, Turn

#: How many rows of x a tile has.
comptime TILE = 12 if MANY_REGISTERS else 6
#: The last tile has this many rows, or twice, or three times as many.
comptime THIRD = TILE // 3
#: How many rows of x are multiplied with a panel: a slice of them fits a second cache of 512 KiB with room to spare.
comptime TALL = 264
#: How many cache lines a row of a panel has.
comptime LINES = ceildiv(PANEL, LINE)
#: What was asked for may have gone again when rows of w are a power of two apart, and a piece begins with rows that
#: nobody asked for: the first tile asks once more, so many rows ahead.
comptime AHEAD = 40


def many_rows[
    activation: StaticString
](x: Rows, w: Floats, bias: Floats, y: Rows, M: Int, K: Int, N: Int, first: Int, last: Int, after: Int):
    """Compute the columns [first, last) of y, [M, N], from x, [M, K], and w, [K, N]; `after` may be the next column."""
    var tall = align_up(ceildiv(M, ceildiv(M, TALL)), TILE)
    var panel = unsafe_alloc[Scalar[F]](DEPTH * PANEL)
    var room = unsafe_alloc[Scalar[F]](sliced_size(TILE, DEPTH))
    var tail = sliced_rows(held(room), TILE)
    for top in range(0, M, tall):
        var rows = min(tall, M - top)
        var goes_on = top + tall < M
        for k in range(0, K, DEPTH):
            var depth = min(DEPTH, K - k)
            var turn = Turn(k == 0, k + depth == K)
            # The panel after the last one: of the next slice, for the next rows, or of another piece.
            var then = after if turn.last and not goes_on else first
            var then_k = 0 if turn.last else k + depth
            var then_m = top if not turn.last else top + tall if goes_on else 0
            var slice = Rows(x.at(top, k), x.apart, 0)
            if rows % TILE:
                _fill_up(slice, tail, rows, depth)
            for c in range(first, last, PANEL):
                var count = min(PANEL, last - c)
                var here = w.unsafe_offset(k * N + c)
                var ends = c + PANEL >= last
                var next = held(w.unsafe_offset(then_k * N + then if ends else k * N + c + PANEL))
                var next_y = y.at(then_m, then) if ends else y.at(top, c + PANEL)
                var more = held(bias.unsafe_offset(c))
                var to = Rows(y.at(top, c), y.apart, 0)
                var begins = c == first
                _tiles[activation](
                    slice, tail, here, next, panel, more, to, next_y, N, rows, depth, count, turn, begins, ends
                )
    room.unsafe_free()
    panel.unsafe_free()


def _fill_up(x: Rows, tail: Rows, rows: Int, depth: Int):
    """What the last tile takes of a slice of x, filled up with zeros to the rows of a tile."""
    var start = (rows - 1) // TILE * TILE
    for m in range(TILE):
        for k in range(0, depth, W):
            var part = load_part(x.at(start + m, k), depth - k) if start + m < rows else Vector(0)
            store_part(tail.at(m, k), part, depth - k)


@always_inline
def _tiles[
    activation: StaticString
](
    x: Rows,
    tail: Rows,
    w: Floats,
    next: HeldFloats,
    panel: MutFloats,
    bias: HeldFloats,
    y: Rows,
    next_y: HeldFloats,
    N: Int,
    rows: Int,
    depth: Int,
    count: Int,
    turn: Turn,
    begins: Bool,
    ends: Bool,
):
    """Add x, [rows, depth], times a panel of w, to y, [rows, count]; ask for the `next` panel and its columns of y.

    The last tile reads the rows of `tail` in the place of x, which ends there. The first panel of a slice asks for its
    rows of x before they are needed, and the last one for what may be the next slice.
    """
    var tiles = ceildiv(rows, TILE)
    if count < PANEL:
        for k in range(depth):
            for c in range(PANEL):
                panel.unsafe_store(k * PANEL + c, w.unsafe_load(k * N + c) if c < count else 0)
    for t in range(tiles):
        # The next panel is asked for shortly before it is needed, and one line more: in a file, a row of it does not
        # begin where a line does, and a number may lie in two of them.
        var nth = t - max(0, tiles - LINES - 2)
        var asked = _Asked(next.unsafe_offset(nth * LINE), N, depth if 0 <= nth <= LINES else 1)
        if (nth < 0 and begins) or (nth > LINES and ends):
            asked = _Asked(x.at(min((t + 1) * TILE, rows), 0), LINE, depth)
        elif -LINES <= nth < 0:
            asked = _Asked(next_y.unsafe_offset((nth + LINES) * LINE), y.apart, rows)
        var m = t * TILE
        var rest = min(TILE, rows - m)

        def tile[T: Int, lays_out: Bool]() {var}:
            var factors = tail if rest < TILE else x.below(m)
            _tile[activation, T, lays_out](
                factors, w, asked, panel, bias, y.below(m), N, depth, rest, count, turn
            )

        if m == 0 and count == PANEL:
            tile[TILE, True]()
        elif rest > 2 * THIRD:
            tile[TILE, False]()
        elif rest > THIRD:
            tile[2 * THIRD, False]()
        else:
            tile[THIRD, False]()


@fieldwise_init
struct _Asked(TrivialRegisterPassable):
    """Lines that are needed soon, some numbers apart: one is asked for at a time, and the last again when all were."""

    var first: HeldFloats
    var apart: Int
    var lines: Int

    @always_inline
    def fetch(self, k: Int):
        fetch(self.first.unsafe_offset(min(k, self.lines - 1) * self.apart))


@no_inline  # or all addresses of all kinds of tiles are kept up to date from tile to tile
def _tile[
    activation: StaticString, T: Int, lays_out: Bool
](
    x: Rows,
    w: Floats,
    asked: _Asked,
    panel: MutFloats,
    bias: HeldFloats,
    y: Rows,
    N: Int,
    depth: Int,
    rows: Int,
    count: Int,
    turn: Turn,
):
    """Add one tile of T rows to y, [rows, count]; ask for lines meanwhile.

    With `lays_out`, w is laid out as the panel meanwhile.
    """
    var factors = x.first
    var left = Array[Vector, T](fill=0)
    var right = Array[Vector, T](fill=0)
    for k in range(depth):
        var of_left: Vector
        var of_right: Vector
        asked.fetch(k)
        comptime if lays_out:
            var again = w.unsafe_offset((k + AHEAD) * N)
            comptime for line in range(LINES + 1):
                fetch(again.unsafe_offset(line * LINE))
            of_left = w.unsafe_load[width=W](k * N)
            of_right = w.unsafe_load[width=W](k * N + W)
            panel.unsafe_store(k * PANEL, of_left)
            panel.unsafe_store(k * PANEL + W, of_right)
        else:
            of_left = panel.unsafe_load[width=W](k * PANEL)
            of_right = panel.unsafe_load[width=W](k * PANEL + W)
        comptime for m in range(T):
            var factor = Vector(factors.unsafe_load(m * SLICED + k))
            left[m] = of_left.fma(factor, left[m])
            right[m] = of_right.fma(factor, right[m])
    if rows < T or count < PANEL:
        comptime for m in range(T):
            if m < rows:
                turn.add[activation](bias, y.at(m, 0), left[m], count)
                if count > W:
                    turn.add[activation](bias.unsafe_offset(W), y.at(m, W), right[m], count - W)
        return
    comptime for m in range(T):
        var before = bias if turn.first else y.first.unsafe_offset(m * y.apart)
        left[m] += before.unsafe_load[width=W](0)
        right[m] += before.unsafe_load[width=W](W)
    if turn.last:
        comptime for m in range(T):
            left[m] = activate[activation](left[m])
            right[m] = activate[activation](right[m])
    comptime for m in range(T):
        y.at(m, 0).unsafe_store(0, left[m])
        y.at(m, W).unsafe_store(0, right[m])
