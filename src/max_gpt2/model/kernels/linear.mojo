"""A linear layer and what may follow it, activation(x @ w + bias), with w as GPT-2's checkpoints have it: [in, out].

Vectors lie along the columns of w, and every element of y is the bias plus one sum for each `DEPTH` rows of w, each a
chain of fused multiply-adds in the order of the rows. So a row of y has the same bits whatever other rows there are,
however many threads, and whichever of the two ways below computes it.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc

from .crew import Crew, work_together
from .few_rows import FEW, Sums, add_slices, few_rows
from .floats import F, Floats, HeldFloats, W, held, load_part, store_part
from .many_rows import many_rows
from .pieces import Pieces
from .rows import Rows, rows_of, sliced_rows, sliced_size
from .take import take_all
from .turn import PANEL


#: What a crew counts for a linear layer: with few rows the sums of slices, and then what they make.
comptime LINEAR_PARTS = 2


@extensibility.register("gpt2.linear")
struct Linear:
    """[tokens, in], [in, out], [out] -> [tokens, out]."""

    @staticmethod
    def execute[
        target: StaticString, activation: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=2, ...],
        x: InputTensor[dtype=DType.float32, rank=2, ...],
        w: InputTensor[dtype=DType.float32, rank=2, ...],
        bias: InputTensor[dtype=DType.float32, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var M = x.dim_size(0)
        var K = w.dim_size(0)
        var N = w.dim_size(1)
        var x_rows = rows_of(x)
        var room = unsafe_alloc[Scalar[F]](sliced_size(M, K) + Sums.size(M, K, N))
        var sliced = sliced_rows(held(room), M)
        var sums = held(room.unsafe_offset(sliced_size(M, K)))
        var w_at = w.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var y_rows = rows_of(y)

        def work(crew: Crew) {var}:
            take_all(crew, 0, x_rows, sliced, M, K)
            linear[activation](crew, 1, sliced, w_at, bias_at, y_rows, sums, M, K, N, 0, N)

        work_together[1 + LINEAR_PARTS](work)
        room.unsafe_free()


@always_inline
def linear[
    activation: StaticString
](
    crew: Crew,
    part: Int,
    x: Rows,
    w: Floats,
    bias: Floats,
    y: Rows,
    sums: HeldFloats,
    M: Int,
    K: Int,
    N: Int,
    first: Int,
    last: Int,
):
    """Two parts of what a crew does, for the columns [first, last) of N; rows of x are sliced.

    `sums` has room for `Sums.size(M, K, last - first)` numbers.
    """
    if M <= FEW:
        _few[activation, False](crew, part, x, w, bias, y, y, Sums(sums, M, K, first, last), N)
        return
    var columns = _Columns(M, K, N, first, last, crew.size)

    def piece(item: Int) {var}:
        columns.compute[activation](item, x, w, bias, y)

    crew.part(part, columns.pieces.count(), piece)


@always_inline
def linear_onto(
    crew: Crew,
    part: Int,
    x: Rows,
    w: Floats,
    bias: Floats,
    onto: Rows,
    y: Rows,
    sums: HeldFloats,
    M: Int,
    K: Int,
    N: Int,
):
    """The same without an activation, and added to `onto`, [M, N]; rows of `onto` and of y are in one piece."""
    if M <= FEW:
        _few["none", True](crew, part, x, w, bias, onto, y, Sums(sums, M, K, 0, N), N)
        return
    var columns = _Columns(M, K, N, 0, N, crew.size)

    def piece(item: Int) {var}:
        columns.compute["none"](item, x, w, bias, y)
        var first = columns.first(item)
        var last = columns.first(item + 1)
        for m in range(M):
            var before = onto.at(m, 0)
            var to = y.at(m, 0)
            for c in range(first, last, W):
                var sum = load_part(before.unsafe_offset(c), last - c) + load_part(to.unsafe_offset(c), last - c)
                store_part(to.unsafe_offset(c), sum, last - c)

    crew.part(part, columns.pieces.count(), piece)


@always_inline
def _few[
    activation: StaticString, onto: Bool
](crew: Crew, part: Int, x: Rows, w: Floats, bias: Floats, before: Rows, y: Rows, sums: Sums, N: Int):
    """For few rows: each thread takes its share of the sums, and then of what they make."""
    var threads = crew.size
    var panels = sums.panels()
    var all_panels = panels * sums.slices()

    def share(item: Int) {var}:
        few_rows(x, w, sums, N, item * all_panels // threads, (item + 1) * all_panels // threads)

    def total(item: Int) {var}:
        add_slices[activation, onto](
            sums, bias, before, y, item * panels // threads, (item + 1) * panels // threads
        )

    crew.part(part, threads, share)
    crew.part(part + 1, threads, total)


struct _Columns(TrivialRegisterPassable):
    """Columns of y in pieces of whole panels, for many rows: x is [M, K], w [K, N], and y [M, N]."""

    var M: Int
    var K: Int
    var N: Int
    var begin: Int
    var end: Int
    var pieces: Pieces

    def __init__(out self, M: Int, K: Int, N: Int, begin: Int, end: Int, threads: Int):
        self.M = M
        self.K = K
        self.N = N
        self.begin = begin
        self.end = end
        self.pieces = Pieces(ceildiv(end - begin, PANEL), threads)

    @always_inline
    def first(self, item: Int) -> Int:
        """The first column of a piece."""
        return min(self.begin + self.pieces.start(item) * PANEL, self.end)

    @always_inline
    def compute[activation: StaticString](self, item: Int, x: Rows, w: Floats, bias: Floats, y: Rows):
        """Compute one piece."""
        var first = self.first(item)
        var last = self.first(item + 1)
        var after = self.first(item + self.pieces.threads)
        many_rows[activation](x, w, bias, y, self.M, self.K, self.N, first, last, after)
