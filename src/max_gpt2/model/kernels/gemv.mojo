"""Matrix product for few rows, y = activation(x @ w + bias), with a weight in rows: memory-bound.

`quantised.mojo` has the product for weights in panels. Each weight is read once, in place. The threads do not divide w
by columns but into contiguous ranges of memory, which a core reads fastest: whole blocks of KC rows, and a part of the
columns only at the two ends of a range.

                 N                                    N
      +--------+--------+-----+            +--------+--------+-----+
      |        | thread 0     | KC         |   partial sums of k = 0   |  M
      +--------+--------+-----+            +--------+--------+-----+
    K | thread 0     |thread 1| KC   ->    |   partial sums of k = 1   |  M    ->  y = bias + sum over k
      +--------+--------+-----+            +--------+--------+-----+
      | thread 1              | KC         |   partial sums of k = 2   |  M
      +--------+--------+-----+            +--------+--------+-----+
        w, row-major                         in panels [M, NR]

    within a block:   for each pass           columns with M * columns <= GEMV_ACCUMULATORS: sums in L1
                        for each GEMV_KR rows of w
                          for each NR columns   tile [GEMV_KR, NR] of w in registers
                            for each row of x     add GEMV_KR products to a partial sum, in the order of the rows

The first phase computes the partial sums of each block, the second adds them up. An element is the same chain of
operations as in `gemm.mojo`, so both give bitwise identical results.
"""

from std.math import ceildiv
from std.memory import unsafe_memset_zero
from std.sys import size_of

from .activations import activate
from .matrix import LinearWeights, Matrix, Workspace
from .tuning import GEMV_ACCUMULATORS, GEMV_KR, GEMV_MAX_ROWS, GEMV_NO_PREFETCH_ROWS, KC, NR, NR_VECTORS
from .types import F32, Floats, MutFloats, UntrackedFloats, Vector, W, load_masked, prefetch_l2, store_masked
from .weights import TYPES, element_type, is_quantised


@fieldwise_init
struct PartialSums(TrivialRegisterPassable):
    """The partial sums of a product: for each block of KC rows of w, panels [M, NR] for the layer's columns."""

    var data: UntrackedFloats  # [blocks, panels, M, NR]
    var M: Int
    var layer: LinearWeights

    @staticmethod
    def size(M: Int, K: Int, columns: Int) -> Int:
        """Return the size of the partial sums in floats: 0 if the product is computed by `gemm`."""
        return M * NR * ceildiv(K, KC) * ceildiv(columns, NR) if M <= GEMV_MAX_ROWS else 0

    @always_inline
    def blocks(self) -> Int:
        """Return the number of blocks of KC rows."""
        return ceildiv(self.layer.K, KC)

    @always_inline
    def panels(self) -> Int:
        """Return the number of panels of a block."""
        return ceildiv(self.layer.last - self.layer.first, NR)

    @always_inline
    def panel(self, index: Int) -> UntrackedFloats:
        """Return a panel, [M, NR], by its index over all blocks."""
        return self.data.unsafe_offset(index * self.M * NR)


def gemv(x: Matrix, sums: PartialSums, begin: Int, end: Int):
    """Compute the panels [begin, end) of the partial sums, indexed over all blocks, from x, [M, K]."""
    comptime for type in range(TYPES):
        comptime if not is_quantised(type):
            if type == sums.layer.type:
                _gemv_rows[element_type(type)](x, sums, begin, end)


def _gemv_rows[dtype: DType](x: Matrix, sums: PartialSums, begin: Int, end: Int):
    """Compute partial sums with a weight whose rows are contiguous."""
    var M = sums.M
    var layer = sums.layer
    var panels = sums.panels()
    var workspace = Workspace(M * KC)
    var packed = workspace.take(M * KC)  # [depth / GEMV_KR, M, GEMV_KR]
    var panel = begin
    while panel < end:
        var block = panel // panels
        var block_end = min((block + 1) * panels, end)
        var k = block * KC
        var depth = min(KC, layer.K - k)
        _pack(x.within_block(0, k), packed, M, depth)
        var passes = ceildiv((block_end - panel) * NR * M, GEMV_ACCUMULATORS)
        var panels_of_pass = ceildiv(block_end - panel, passes)
        while panel < block_end:
            var count = min(panels_of_pass, block_end - panel)
            var j = layer.first + (panel - block * panels) * NR
            var w = layer.ptr[dtype](k, j)
            unsafe_memset_zero(sums.panel(panel), count * NR * M)
            _multiply(packed, w, layer.N, sums.panel(panel), M, depth, min(count * NR, layer.last - j))
            panel += count
    workspace.free()


def reduce_partial_sums[
    add_residual: Bool
](sums: PartialSums, residual: Matrix, y: Matrix, begin: Int, end: Int, activation: Int):
    """Compute the panels [begin, end) of y, [M, N]: activation(bias + partial sums), plus any residual."""
    var layer = sums.layer
    for panel in range(begin, end):
        for v in range(NR_VECTORS):
            var j = layer.first + panel * NR + v * W
            var count = layer.last - j
            if count <= 0:
                break
            for m in range(sums.M):
                var value = load_masked(layer.bias.unsafe_offset(j), count)
                for block in range(sums.blocks()):
                    var sum = sums.panel(block * sums.panels() + panel)
                    value = sum.unsafe_load[width=W](m * NR + v * W) + value
                value = activate(activation, value)
                comptime if add_residual:
                    value = load_masked(residual.ptr(m, j), count) + value
                store_masked(y.ptr(m, j), value, count)


@always_inline
def _pack(x: Matrix, packed: MutFloats, M: Int, depth: Int):
    """Pack x, [M, depth], as [depth / GEMV_KR, M, GEMV_KR]. The remaining columns become [remainder, M]."""
    var k = 0
    while k + GEMV_KR <= depth:
        for m in range(M):
            packed.unsafe_store(k * M + m * GEMV_KR, x.ptr(m, k).unsafe_load[width=GEMV_KR](0))
        k += GEMV_KR
    while k < depth:
        for m in range(M):
            packed.unsafe_store(k * M + m, x.ptr(m, k).unsafe_load(0))
        k += 1


@always_inline
def _multiply[
    dtype: DType
](packed: Floats, w: Pointer[Scalar[dtype], _], N: Int, sums: MutFloats, M: Int, depth: Int, columns: Int):
    """Add the packed rows of x, [M, depth], times w, [depth, columns], to the partial sums."""
    var k = 0
    if M == 1:  # nothing is reused, so the registers may hold more rows
        comptime G = GEMV_KR * (4 // size_of[dtype]())
        while k + G <= depth:
            var w_group = w.unsafe_offset(k * N)
            _multiply_group[G, GEMV_NO_PREFETCH_ROWS == 0](packed.unsafe_offset(k), w_group, N, sums, 1, columns)
            k += G
    while k + GEMV_KR <= depth:
        var x_group = packed.unsafe_offset(k * M)
        var w_group = w.unsafe_offset(k * N)
        if M <= GEMV_NO_PREFETCH_ROWS:
            _multiply_group[GEMV_KR, False](x_group, w_group, N, sums, M, columns)
        else:
            _multiply_group[GEMV_KR, True](x_group, w_group, N, sums, M, columns)
        k += GEMV_KR
    while k < depth:
        _multiply_group[1, False](packed.unsafe_offset(k * M), w.unsafe_offset(k * N), N, sums, M, columns)
        k += 1


@always_inline
def _multiply_group[
    dtype: DType, //, G: Int, prefetches: Bool
](x: Floats, w: Pointer[Scalar[dtype], _], N: Int, sums: MutFloats, M: Int, columns: Int):
    """Add x, [M, G], times w, [G, columns], to the partial sums, panels [M, NR]."""
    comptime V = NR_VECTORS
    var j = 0
    while j + NR <= columns:
        var tile = Array[Vector, G * V](fill=0)  # [G, NR]
        comptime for g in range(G):
            var row = w.unsafe_offset(g * N + j)
            comptime for v in range(V):
                tile[g * V + v] = row.unsafe_load[width=W](v * W).cast[F32]()
            comptime if prefetches:
                comptime for v in range(0, V, 4 // size_of[dtype]()):  # a prefetch for each vector of bytes
                    prefetch_l2(row.unsafe_offset(G * N + v * W))
        var panel = sums.unsafe_offset(j * M)
        for m in range(M):
            var sum = Array[Vector, V](fill=0)  # [NR]
            comptime for v in range(V):
                sum[v] = panel.unsafe_load[width=W](m * NR + v * W)
            comptime for g in range(G):
                var factor = Vector(x.unsafe_load(m * G + g))
                comptime for v in range(V):
                    sum[v] = tile[g * V + v].fma(factor, sum[v])
            comptime for v in range(V):
                panel.unsafe_store(m * NR + v * W, sum[v])
        j += NR
    var panel = sums.unsafe_offset(j * M)
    for m in range(M):
        for c in range(columns - j):
            var sum = panel.unsafe_load(m * NR + c)
            comptime for g in range(G):
                sum = w.unsafe_load(g * N + j + c).cast[F32]().fma(x.unsafe_load(m * G + g), sum)
            panel.unsafe_store(m * NR + c, sum)
