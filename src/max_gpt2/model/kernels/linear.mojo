"""A linear layer and what may follow it, activation(x @ w + bias), with w as GPT-2's checkpoints have it: [in, out].

Vectors lie along the columns of w, and every element of y is the bias plus one sum for each `DEPTH` rows of w, each a
chain of fused multiply-adds in the order of the rows. So a row of y has the same bits whatever other rows there are,
however many threads, and whichever of the two ways below computes it.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import align_up, ceildiv

from .crew import Crew, work_together
from .few_rows import FEW, few_rows
from .floats import Floats, MutFloats, W, load_part, store_part
from .many_rows import many_rows
from .turn import PANEL


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
        var x_at = x.unsafe_ptr()
        var w_at = w.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var M = x.dim_size(0)
        var K = w.dim_size(0)
        var N = w.dim_size(1)

        def work(crew: Crew) {var}:
            linear[activation](crew, 0, x_at, w_at, bias_at, y_at, M, K, N)

        work_together[1](work)


@always_inline
def linear[
    activation: StaticString
](crew: Crew, part: Int, x: Floats, w: Floats, bias: Floats, y: MutFloats, M: Int, K: Int, N: Int):
    """One part of what a crew does; each thread takes as many columns as the others."""
    var share = align_up(ceildiv(N, crew.size), PANEL)

    def columns(item: Int) {var}:
        _columns[activation](x, w, bias, y, M, K, N, item * share, min((item + 1) * share, N))

    crew.part(part, ceildiv(N, share), columns)


@always_inline
def linear_onto(
    crew: Crew, part: Int, x: Floats, w: Floats, bias: Floats, onto: Floats, y: MutFloats, M: Int, K: Int, N: Int
):
    """The same without an activation, and added to `onto`, [M, N]."""
    var share = align_up(ceildiv(N, crew.size), PANEL)

    def columns(item: Int) {var}:
        var first = item * share
        var last = min(first + share, N)
        _columns["none"](x, w, bias, y, M, K, N, first, last)
        for m in range(M):
            for c in range(first, last, W):
                var to = y.unsafe_offset(m * N + c)
                var before = load_part(onto.unsafe_offset(m * N + c), last - c)
                store_part(to, before + load_part(to, last - c), last - c)

    crew.part(part, ceildiv(N, share), columns)


@always_inline
def _columns[
    activation: StaticString
](x: Floats, w: Floats, bias: Floats, y: MutFloats, M: Int, K: Int, N: Int, first: Int, last: Int):
    """The columns [first, last) of y."""
    if M <= FEW:
        few_rows[activation](x, w, bias, y, M, K, N, first, last)
    else:
        many_rows[activation](x, w, bias, y, M, K, N, first, last)
