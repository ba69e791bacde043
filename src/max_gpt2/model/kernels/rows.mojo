"""How the rows of a matrix lie in memory: it decides what of them fits into a cache together.

Rows that are a power of two apart, as those of gpt2-medium would be, fall on each other in a cache. And a product takes
`DEPTH` columns of many rows at a time, for which it matters that they are near each other.
"""

from extensibility import ManagedTensorSlice
from std.math import align_up, ceildiv

from .floats import F, HeldFloats, held
from .turn import DEPTH

#: How many numbers a cache line has.
comptime LINE = 16
#: How far apart the rows of a slice are.
comptime SLICED = DEPTH + LINE


@fieldwise_init
struct Rows(TrivialRegisterPassable):
    """A matrix in slices of `DEPTH` columns: these are `step` numbers apart, and the rows of each are `apart`.

    With a step of `DEPTH` each row is in one piece.
    """

    var first: HeldFloats
    var apart: Int
    var step: Int

    @always_inline
    def at(self, m: Int, n: Int) -> HeldFloats:
        """Where a number is; those to the right of it follow up to the end of its slice."""
        return self.first.unsafe_offset(n // DEPTH * self.step + m * self.apart + n % DEPTH)

    @always_inline
    def below(self, m: Int) -> Self:
        """The rows from `m` on."""
        return Self(self.at(m, 0), self.apart, self.step)

    @always_inline
    def store[width: Int](self, m: Int, n: Int, vector: SIMD[F, width]):
        """Store numbers that lie beside each other, or at the end of one slice and the beginning of the next."""
        if n % DEPTH + width <= DEPTH:
            self.at(m, n).unsafe_store(0, vector)
        else:
            comptime for lane in range(width):
                self.at(m, n + lane).unsafe_store(0, vector[lane])


@always_inline
def rows_of(matrix: ManagedTensorSlice[dtype=F, rank=2, ...]) -> Rows:
    """What the graph hands in: one row behind another."""
    return Rows(held(matrix.unsafe_ptr()), matrix.dim_size(1), DEPTH)


@always_inline
def loose_rows(first: HeldFloats, columns: Int) -> Rows:
    """Whole rows, an odd number of cache lines apart."""
    return Rows(first, loose_size(1, columns), DEPTH)


@always_inline
def sliced_rows(first: HeldFloats, rows: Int) -> Rows:
    """Rows as a product reads them: all of the first slice, then all of the second, and so on."""
    return Rows(first, SLICED, rows * SLICED)


@always_inline
def loose_size(rows: Int, columns: Int) -> Int:
    """How many numbers there is room for in a matrix of loose rows."""
    return rows * (align_up(columns, LINE) | LINE)


@always_inline
def sliced_size(rows: Int, columns: Int) -> Int:
    """How many numbers there is room for in a matrix of sliced rows."""
    return rows * SLICED * ceildiv(columns, DEPTH)
