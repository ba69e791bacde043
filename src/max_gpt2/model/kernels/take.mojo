"""Rows of a matrix, copied to where another way of lying is wanted: some of them, or all."""

from std.math import ceildiv

from .crew import Crew
from .floats import Ids, W, load_part, store_part
from .rows import Rows

#: How many rows a thread takes at a time.
comptime ROWS = 16


@always_inline
def take(crew: Crew, part: Int, x: Rows, ids: Ids, y: Rows, M: Int, N: Int):
    """One part of what a crew does: row m of y, [M, N], is row `ids[m]` of x."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS, min((item + 1) * ROWS, M)):
            _copy(x, Int(ids.unsafe_load(m)), y, m, N)

    crew.part(part, ceildiv(M, ROWS), rows)


@always_inline
def take_all(crew: Crew, part: Int, x: Rows, y: Rows, M: Int, N: Int):
    """The same with row m of x."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS, min((item + 1) * ROWS, M)):
            _copy(x, m, y, m, N)

    crew.part(part, ceildiv(M, ROWS), rows)


@always_inline
def _copy(x: Rows, row: Int, y: Rows, m: Int, N: Int):
    for n in range(0, N, W):
        store_part(y.at(m, n), load_part(x.at(row, n), N - n), N - n)
