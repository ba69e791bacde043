"""Matrices and their memory layouts: activations in three layouts, weights as `weights.mojo` describes.

layout      address of element (m, n)                       used for
row-major   m * columns + n                                 operands and results of the graph
padded      m * row_stride + n                              whole rows, read by layer norm and attention
blocked     n // KC * block_stride + m * (KC + 16) + n % KC the left factor of a product

A padded row takes an odd number of cache lines. Rows that are a power of two apart, as those of gpt2-medium would be,
map to the same cache sets and evict each other. A product reads KC columns of many rows at a time; the blocked layout
keeps these close together, and adds one cache line to each row for the same reason:

      n = 0 .. KC-1      KC .. 2*KC-1
    +----------------+ +----------------+
    | row 0        |#| | row 0        |#|      # one cache line of padding
    | row 1        |#| | row 1        |#|
    | ...          |#| | ...          |#|
    +----------------+ +----------------+
    data               data + block_stride
"""

from extensibility import ManagedTensorSlice
from std.bit import log2_floor
from std.math import align_up, ceildiv
from std.memory.alloc import unsafe_alloc

from .threads import ThreadTeam
from .tuning import CACHE_LINE, KC, ROWS_PER_ITEM
from .types import F32, Floats, MutFloats, UntrackedBytes, UntrackedFloats, UntrackedInts, Vector, W
from .types import load_masked, store_masked, untracked
from .weights import PANEL, is_quantised, panel_bytes, row_bytes

#: Distance of two rows in the blocked layout.
comptime BLOCK_ROW = KC + CACHE_LINE


@fieldwise_init
struct Matrix(TrivialRegisterPassable):
    """A matrix in blocks of KC columns: the blocks are `block_stride` apart, the rows of a block `row_stride`.

    Rows are contiguous if `block_stride` is KC.
    """

    var data: UntrackedFloats
    var row_stride: Int
    var block_stride: Int

    @staticmethod
    @always_inline
    def row_major(tensor: ManagedTensorSlice[dtype=F32, rank=2, ...]) -> Self:
        """Return a view of an operand or result of the graph."""
        return Self(untracked(tensor.unsafe_ptr()), tensor.dim_size(1), KC)

    @staticmethod
    @always_inline
    def padded(data: UntrackedFloats, columns: Int) -> Self:
        """Return a matrix of contiguous rows in `padded_size(rows, columns)` floats at `data`."""
        return Self(data, Self.padded_size(1, columns), KC)

    @staticmethod
    @always_inline
    def blocked(data: UntrackedFloats, rows: Int) -> Self:
        """Return a blocked matrix in `blocked_size(rows, columns)` floats at `data`."""
        return Self(data, BLOCK_ROW, rows * BLOCK_ROW)

    @staticmethod
    @always_inline
    def padded_size(rows: Int, columns: Int) -> Int:
        """Return the size of a padded matrix in floats."""
        return rows * (align_up(columns, CACHE_LINE) | CACHE_LINE)

    @staticmethod
    @always_inline
    def blocked_size(rows: Int, columns: Int) -> Int:
        """Return the size of a blocked matrix in floats."""
        return rows * BLOCK_ROW * ceildiv(columns, KC)

    @always_inline
    def ptr(self, m: Int, n: Int) -> UntrackedFloats:
        """Return the address of an element. The rest of its row follows it up to the end of the block."""
        return self.data.unsafe_offset(n // KC * self.block_stride + m * self.row_stride + n % KC)

    @always_inline
    def from_row(self, m: Int) -> Self:
        """Return a view that starts at row `m`."""
        return Self(self.ptr(m, 0), self.row_stride, self.block_stride)

    @always_inline
    def within_block(self, m: Int, n: Int) -> Self:
        """Return a view that starts at element (m, n) and ends with its column block."""
        return Self(self.ptr(m, n), self.row_stride, 0)

    @always_inline
    def store[width: Int](self, m: Int, n: Int, vector: SIMD[F32, width]):
        """Store a vector that may cross from one column block into the next."""
        if n % KC + width <= KC:
            self.ptr(m, n).unsafe_store(0, vector)
        else:
            comptime for lane in range(width):
                self.ptr(m, n + lane).unsafe_store(0, vector[lane])


@fieldwise_init
struct LinearWeights(TrivialRegisterPassable):
    """The weight [K, N] and bias [N] of a linear layer, restricted to the output columns [first, last)."""

    var weight: UntrackedBytes  # [K, N], row-major, or the panels of a quantised type
    var type: Int  # one of weights.mojo
    var bias: UntrackedFloats  # [N]
    var K: Int
    var N: Int
    var first: Int
    var last: Int

    @always_inline
    def __init__(out self, weight: UntrackedBytes, type: Int, bias: UntrackedFloats, K: Int, N: Int):
        """Wrap all columns of a layer."""
        self.weight = weight
        self.type = type
        self.bias = bias
        self.K = K
        self.N = N
        self.first = 0
        self.last = N

    @always_inline
    def columns(self, first: Int, last: Int) -> Self:
        """Return the same layer restricted to the columns [first, last).

        `first` of a quantised weight is a multiple of PANEL. It is for the queries, keys and values, since their K is a
        whole number of blocks.
        """
        return Self(self.weight, self.type, self.bias, self.K, self.N, first, last)

    def bytes(self) -> Int:
        """Return the size of the whole weight."""
        if not is_quantised(self.type):
            return self.K * row_bytes(self.type, self.N)
        var columns = align_up(self.N, PANEL)
        var panels = columns // PANEL
        return panels * (
            self.K // KC * panel_bytes(self.type, KC) + panel_bytes(self.type, self.K % KC) * Int(self.K % KC > 0)
        )

    @always_inline
    def ptr[dtype: DType](self, k: Int, j: Int) -> Pointer[mut=True, Scalar[dtype], MutUntrackedOrigin]:
        """Return the address of an element of a weight that is not quantised; the next row is N elements further."""
        return self.weight.unsafe_bitcast[Scalar[dtype]]().unsafe_offset(k * self.N + j)

    @always_inline
    def block(self, k: Int, j: Int) -> UntrackedBytes:
        """Return the address of the panel of column `j` in the block that starts at row `k`, a multiple of KC."""
        var panels = ceildiv(self.N, PANEL)
        var depth = min(KC, self.K - k)
        var blocks = k // KC * panels * panel_bytes(self.type, KC)
        return self.weight.unsafe_offset(blocks + j // PANEL * panel_bytes(self.type, depth))


struct Workspace(Movable):
    """A bump allocator for the scratch memory of one operation. The caller frees it."""

    var data: UntrackedFloats
    var capacity: Int
    var used: Int

    def __init__(out self, capacity: Int):
        """Allocate `capacity` floats, uninitialized, at a cache line."""
        self.data = untracked(unsafe_alloc[Scalar[F32]](capacity, alignment=4 * CACHE_LINE))
        self.capacity = capacity
        self.used = 0

    def take(mut self, count: Int) -> UntrackedFloats:
        """Return the next `count` floats."""
        var start = self.data.unsafe_offset(self.used)
        self.used += count
        debug_assert[assert_mode="safe"](self.used <= self.capacity, "a kernel uses more workspace than it allocated")
        return start

    def free(self):
        """Free the memory."""
        self.data.unsafe_free()


@always_inline
def gather_rows(mut team: ThreadTeam, x: Matrix, indices: UntrackedInts, y: Matrix, M: Int, N: Int):
    """Copy row `indices[m]` of x to row m of y, [M, N], in one phase."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS_PER_ITEM, min((item + 1) * ROWS_PER_ITEM, M)):
            _copy_row(x, Int(indices.unsafe_load(m)), y, m, N)

    team.phase(ceildiv(M, ROWS_PER_ITEM), rows)


@always_inline
def copy_rows(mut team: ThreadTeam, x: Matrix, y: Matrix, M: Int, N: Int):
    """Copy x, [M, N], to y in another layout, in one phase."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS_PER_ITEM, min((item + 1) * ROWS_PER_ITEM, M)):
            _copy_row(x, m, y, m, N)

    team.phase(ceildiv(M, ROWS_PER_ITEM), rows)


@always_inline
def _copy_row(x: Matrix, source: Int, y: Matrix, target: Int, N: Int):
    for n in range(0, N, W):
        store_masked(y.ptr(target, n), load_masked(x.ptr(source, n), N - n), N - n)


@always_inline
def transpose_square(x: Floats, x_stride: Int, y: MutFloats, y_stride: Int):
    """Store the transpose of x, [W, W], in y. Rows of x and y are `x_stride` and `y_stride` apart.

    Each of log2(W) rounds interleaves the first half of the rows with the second. After all rounds, the row
    index and the column index are swapped.
    """
    var rows = Array[Vector, W](fill=0)
    comptime for i in range(W):
        rows[i] = x.unsafe_load[width=W](i * x_stride)
    comptime for _ in range(log2_floor(W)):
        var shuffled = Array[Vector, W](fill=0)
        comptime for i in range(W // 2):
            var both = rows[i].interleave(rows[i + W // 2])
            shuffled[2 * i] = both.slice[W, offset=0]()
            shuffled[2 * i + 1] = both.slice[W, offset=W]()
        rows = shuffled^
    comptime for i in range(W):
        y.unsafe_store(i * y_stride, rows[i])
