"""Some rows of a matrix, one after another."""

from std.math import ceildiv

from .crew import Crew
from .floats import Floats, Ids, MutFloats, W, load_part, store_part

#: How many rows a thread takes at a time.
comptime ROWS = 16


@always_inline
def take(crew: Crew, part: Int, x: Floats, ids: Ids, y: MutFloats, M: Int, N: Int):
    """One part of what a crew does: row m of y, [M, N], is row `ids[m]` of x."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS, min((item + 1) * ROWS, M)):
            var row = x.unsafe_offset(Int(ids.unsafe_load(m)) * N)
            for n in range(0, N, W):
                store_part(y.unsafe_offset(m * N + n), load_part(row.unsafe_offset(n), N - n), N - n)

    crew.part(part, ceildiv(M, ROWS), rows)
