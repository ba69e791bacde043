"""Matrix product for many rows, y = activation(x @ w + bias): compute-bound.

The blocking is that of Goto and van de Geijn 2008. One thread computes NC columns of y, those of one work item:

                 K                           NC                        NC
           +-----+-----+              +----+--+--------+        +----+--+--------+
           | KC  |     |              |    |NR|        | KC     |    |NR|        |
        MC |/////|     |              |    |//|        |        |    |##| MR     | MC
           |/////|     |              +----+--+--------+        |    |  |        |
      M    +-----+-----+     x     K  |                |  =  M  +----+--+--------+
           |     |     |              |                |        |                |
           |     |     |              |                |        |                |
           +-----+-----+              +----------------+        +----------------+
             x, blocked                 w, row-major              y

    for each MC rows of x                  block [MC, KC] of x: in L2
      for each KC rows of w
        for each NR columns of w           micro-panel [KC, NR] of w: packed by the first tile, in L1 or L2
          for each MR rows               micro-kernel: tile [MR, NR] of y in registers, one FMA chain over KC

x is not packed here: the operation that computes it stores it in the blocked layout of `matrix.mojo`. The first tile of
a micro-panel reads w in place and packs it for the other tiles at no extra cost.

Memory that is needed next is prefetched one cache line per row of w: a core that requests many lines at once stalls
until all of them arrive. This includes the lines of y, since a store waits for its line as well.
"""

from std.math import align_up, ceildiv

from .activations import NONE, activate
from .matrix import BLOCK_ROW, LinearWeights, Matrix, Workspace
from .tuning import CACHE_LINE, KC, MC, MR, MR_STEP, NR, NR_VECTORS, PACK_PREFETCH_ROWS
from .types import F32, Floats, MutFloats, U8, UntrackedBytes, UntrackedFloats, Vector, W
from .types import load_masked, prefetch_l2, store_masked
from .weights import PANEL, TYPE_F32, TYPES, decode_block, element_type, is_quantised, panel_bytes, row_bytes

#: Cache lines of a row of a micro-panel of y, or of a float32 weight.
comptime PANEL_LINES = ceildiv(NR, CACHE_LINE)
comptime LINE_BYTES = 4 * CACHE_LINE


@fieldwise_init
struct KBlock(TrivialRegisterPassable):
    """The position of a block of KC rows of w: the first adds the bias, the last applies the activation."""

    var first: Bool
    var last: Bool
    var activation: Int  # a number of activations.mojo

    @always_inline
    def accumulate(self, bias: Floats, y: MutFloats, sum: Vector, count: Int):
        """Add the partial sum of this block to `count` elements of y."""
        var value = sum + (load_masked(bias, count) if self.first else load_masked(y, count))
        store_masked(y, activate(self.activation, value) if self.last else value, count)


@fieldwise_init
struct _Panel(TrivialRegisterPassable):
    """A micro-panel [depth, columns] of w, and the elements of the bias that belong to it."""

    var w: UntrackedFloats  # [depth, columns], rows N apart, if it is float32
    var N: Int
    var packed: UntrackedFloats  # [KC, NR], written by the first tile, or before it
    var is_packed: Bool
    var bias: UntrackedFloats  # [columns]
    var depth: Int  # at most KC
    var columns: Int  # at most NR
    var block: KBlock


@fieldwise_init
struct _Prefetch(TrivialRegisterPassable):
    """Cache lines to prefetch, `stride` bytes apart, one in each step. The last is repeated when all are done."""

    var first: UntrackedBytes
    var stride: Int
    var lines: Int

    @always_inline
    def step(self, k: Int):
        prefetch_l2(self.first.unsafe_offset(min(k, self.lines - 1) * self.stride))


@fieldwise_init
struct _NextPanel(TrivialRegisterPassable):
    """The memory of the next micro-panel: `passes` columns of `lines` cache lines, which are `stride` bytes apart.

    Weights mapped from a file are not aligned to cache lines, so a row may take one more line than its size.
    """

    var data: UntrackedBytes
    var stride: Int
    var lines: Int
    var passes: Int

    @always_inline
    def __init__(out self, layer: LinearWeights, k: Int, j: Int):
        """Describe the micro-panel of column `j` in the block that starts at row `k`."""
        if is_quantised(layer.type):
            self.data = layer.block(k, j)
            self.stride = LINE_BYTES
            self.lines = ceildiv(panel_bytes(layer.type, min(KC, layer.K - k)), LINE_BYTES)
            self.passes = 1
            return
        var element = row_bytes(layer.type, 1)
        self.data = layer.weight.unsafe_offset((k * layer.N + j) * element)
        self.stride = layer.N * element
        self.lines = min(KC, layer.K - k)
        self.passes = ceildiv(NR * element, LINE_BYTES) + 1

    @always_inline
    def prefetch(self, index: Int) -> _Prefetch:
        """Return the prefetches of a pass."""
        return _Prefetch(self.data.unsafe_offset(index * LINE_BYTES), self.stride, self.lines)


@fieldwise_init
struct _Neighbors(TrivialRegisterPassable):
    """The operands that follow a micro-panel, which are prefetched while it is computed."""

    var w: _NextPanel
    var y: UntrackedFloats  # its first column of y
    var first: Bool  # this micro-panel is the first of its block of x
    var last: Bool  # this micro-panel is the last of its block of x


def gemm(x: Matrix, layer: LinearWeights, y: Matrix, M: Int, next_item: Int, activation: Int):
    """Compute the columns [layer.first, layer.last) of y, [M, N], from x, [M, K], in the blocked layout.

    `next_item` is the first column of the work item that this thread is most likely to compute next.
    """
    comptime assert KC % NR == 0, "NR must divide KC: a tile must not cross two column blocks of y"
    var K = layer.K
    var N = layer.N
    var first = layer.first
    var last = layer.last
    var mc = align_up(ceildiv(M, ceildiv(M, MC)), MR)  # blocks of equal height
    var workspace = Workspace(KC * NR + Matrix.blocked_size(MR, KC))
    var packed = workspace.take(KC * NR)  # [KC, NR]
    var x_tail = Matrix.blocked(workspace.take(Matrix.blocked_size(MR, KC)), MR)  # [MR, KC]
    for i in range(0, M, mc):
        var rows = min(mc, M - i)
        var last_rows = i + mc >= M
        for k in range(0, K, KC):
            var depth = min(KC, K - k)
            var block = KBlock(k == 0, k + depth == K, activation)
            # After the last micro-panel comes the next block of K, the next block of M, or another work item.
            var next_j = next_item if block.last and last_rows else first
            var next_k = 0 if block.last else k + depth
            var next_i = i if not block.last else 0 if last_rows else i + mc
            var x_block = x.within_block(i, k)  # [rows, depth]
            if rows % MR:
                _pad_tail(x_block, x_tail, rows, depth)
            for j in range(first, last, NR):
                var ends = j + NR >= last
                var w = layer.ptr[F32](k, j)
                var bias = layer.bias.unsafe_offset(j)
                var is_packed = layer.type != TYPE_F32
                var panel = _Panel(w, N, packed, is_packed, bias, depth, min(NR, last - j), block)
                if is_packed:
                    _decode(layer, k, j, panel)
                var next_w = _NextPanel(layer, next_k if ends else k, next_j if ends else j + NR)
                var next_y = y.ptr(next_i, next_j) if ends else y.ptr(i, j + NR)
                var neighbors = _Neighbors(next_w, next_y, j == first, ends)
                _multiply_panel(x_block, x_tail, panel, y.within_block(i, j), rows, neighbors)
    workspace.free()


def _pad_tail(x: Matrix, x_tail: Matrix, rows: Int, depth: Int):
    """Copy the last, incomplete tile of x, [rows, depth], to x_tail, [MR, depth], and pad it with zero rows."""
    var start = (rows - 1) // MR * MR
    for m in range(MR):
        for k in range(0, depth, W):
            var part = load_masked(x.ptr(start + m, k), depth - k) if start + m < rows else Vector(0)
            store_masked(x_tail.ptr(m, k), part, depth - k)


@always_inline
def _multiply_panel(x: Matrix, x_tail: Matrix, panel: _Panel, y: Matrix, rows: Int, neighbors: _Neighbors):
    """Add x, [rows, depth], times a micro-panel, to y, [rows, columns].

    The last tile reads `x_tail` instead of x if `rows` is not a multiple of MR.
    """
    var tiles = ceildiv(rows, MR)
    if panel.columns < NR and not panel.is_packed:
        _pack_edge(panel)
    for t in range(tiles):
        var m = t * MR
        var height = min(MR, rows - m)
        var prefetch = _prefetch_for_tile(t, tiles, x, panel, y, rows, neighbors)

        def tile[T: Int, packs: Bool]() {var}:
            var x_tile = x_tail.data if height < MR else x.ptr(m, 0)
            _micro_kernel[T, packs](x_tile, panel, y.from_row(m), height, prefetch)

        if m == 0 and panel.columns == NR and not panel.is_packed:
            tile[MR, True]()
        elif height > 2 * MR_STEP:
            tile[MR, False]()
        elif height > MR_STEP:
            tile[2 * MR_STEP, False]()
        else:
            tile[MR_STEP, False]()


@always_inline
def _prefetch_for_tile(
    t: Int, tiles: Int, x: Matrix, panel: _Panel, y: Matrix, rows: Int, neighbors: _Neighbors
) -> _Prefetch:
    """Return the prefetches of tile `t`: the next rows of x, the next columns of y, or the next micro-panel.

    The next micro-panel comes last, shortly before it is needed. One extra line of it is prefetched: weights mapped
    from a file are not aligned to cache lines.
    """
    var line = t - max(0, tiles - PANEL_LINES - 2)  # of the next micro-panel
    if (line < 0 and neighbors.first) or (line > PANEL_LINES and neighbors.last):
        return _lines(x.ptr(min((t + 1) * MR, rows), 0), CACHE_LINE, panel.depth)
    elif -PANEL_LINES <= line < 0:
        return _lines(neighbors.y.unsafe_offset((line + PANEL_LINES) * CACHE_LINE), y.row_stride, rows)
    elif 0 <= line < neighbors.w.passes:
        return neighbors.w.prefetch(line)
    return _Prefetch(neighbors.w.data, 0, 1)


@always_inline
def _lines(first: UntrackedFloats, stride: Int, lines: Int) -> _Prefetch:
    """Return the prefetches of cache lines that are `stride` floats apart."""
    return _Prefetch(first.unsafe_bitcast[Scalar[U8]](), 4 * stride, lines)


def _decode(layer: LinearWeights, k: Int, j: Int, panel: _Panel):
    """Decode a micro-panel of another type than float32, padded with zeros."""
    comptime for type in range(TYPES):
        comptime if is_quantised(type):
            if type == layer.type:
                decode_block[type](layer.block(k, j), j % PANEL, panel.packed, panel.depth)
        elif type != TYPE_F32:
            if type == layer.type:
                _decode_rows[element_type(type)](layer, k, j, panel)


@always_inline
def _decode_rows[dtype: DType](layer: LinearWeights, k: Int, j: Int, panel: _Panel):
    for row in range(panel.depth):
        var w = layer.ptr[dtype](k + row, j)
        prefetch_l2(w.unsafe_offset(PACK_PREFETCH_ROWS * layer.N))
        for v in range(NR_VECTORS):
            var values = Vector(0)
            if v * W + W <= panel.columns:
                values = w.unsafe_load[width=W](v * W).cast[F32]()
            else:
                for lane in range(min(W, panel.columns - v * W)):
                    values[lane] = w.unsafe_load(v * W + lane).cast[F32]()
            panel.packed.unsafe_store(row * NR + v * W, values)


def _pack_edge(panel: _Panel):
    """Pack a micro-panel of fewer than NR columns, padded with zeros."""
    for k in range(panel.depth):
        for c in range(NR):
            var value = panel.w.unsafe_load(k * panel.N + c) if c < panel.columns else 0
            panel.packed.unsafe_store(k * NR + c, value)


@no_inline  # inlined, the addresses of all variants would be updated from tile to tile
def _micro_kernel[T: Int, packs: Bool](x: UntrackedFloats, panel: _Panel, y: Matrix, rows: Int, prefetch: _Prefetch):
    """Add the product of x, [T, depth], and a micro-panel to a tile of y, [rows, columns].

    With `packs`, read the micro-panel from w and pack it at the same time.
    """
    comptime V = NR_VECTORS
    var sums = Array[Vector, T * V](fill=0)  # [T, NR]
    for k in range(panel.depth):
        var w = Array[Vector, V](fill=0)  # [NR]
        prefetch.step(k)
        comptime if packs:
            var ahead = panel.w.unsafe_offset((k + PACK_PREFETCH_ROWS) * panel.N)
            comptime for line in range(PANEL_LINES + 1):
                prefetch_l2(ahead.unsafe_offset(line * CACHE_LINE))
            comptime for v in range(V):
                w[v] = panel.w.unsafe_load[width=W](k * panel.N + v * W)
            comptime for v in range(V):
                panel.packed.unsafe_store(k * NR + v * W, w[v])
        else:
            comptime for v in range(V):
                w[v] = panel.packed.unsafe_load[width=W](k * NR + v * W)
        comptime for m in range(T):
            var factor = Vector(x.unsafe_load(m * BLOCK_ROW + k))
            comptime for v in range(V):
                sums[m * V + v] = w[v].fma(factor, sums[m * V + v])
    if rows < T or panel.columns < NR:
        comptime for m in range(T):
            if m < rows:
                comptime for v in range(V):
                    if panel.columns > v * W:
                        panel.block.accumulate(
                            panel.bias.unsafe_offset(v * W), y.ptr(m, v * W), sums[m * V + v], panel.columns - v * W
                        )
        return
    comptime for m in range(T):
        var before = panel.bias if panel.block.first else y.data.unsafe_offset(m * y.row_stride)
        comptime for v in range(V):
            sums[m * V + v] += before.unsafe_load[width=W](v * W)
    if panel.block.last and panel.block.activation != NONE:
        comptime for i in range(T * V):
            sums[i] = activate(panel.block.activation, sums[i])
    comptime for m in range(T):
        comptime for v in range(V):
            y.ptr(m, v * W).unsafe_store(0, sums[m * V + v])
