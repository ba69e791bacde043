"""A linear layer and what may follow it, activation(x @ w + bias), with w as GPT-2's checkpoints have it: [in, out].

Vectors lie along the columns of w, and every element of y is the bias plus one sum for each `DEPTH` rows of w, each a
chain of fused multiply-adds in the order of the rows. So a row of y has the same bits whatever other rows there are,
however many threads, and whichever of the two ways below computes it.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from max.runtime.asyncrt import parallelism_level
from std.math import align_up, ceildiv

from .few_rows import FEW, few_rows
from .floats import Floats, MutFloats
from .many_rows import PANEL, many_rows


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
        _linear[activation](
            x.unsafe_ptr(), w.unsafe_ptr(), bias.unsafe_ptr(), y.unsafe_ptr(), x.dim_size(0), w.dim_size(0), w.dim_size(1)
        )


def _linear[
    activation: StaticString
](x: Floats, w: Floats, bias: Floats, y: MutFloats, M: Int, K: Int, N: Int):
    var share = align_up(ceildiv(N, parallelism_level(None)), PANEL)

    def columns(thread: Int) {var}:
        var first = thread * share
        var last = min(first + share, N)
        if M <= FEW:
            few_rows[activation](x, w, bias, y, M, K, N, first, last)
        else:
            many_rows[activation](x, w, bias, y, M, K, N, first, last)

    sync_parallelize(columns, ceildiv(N, share))
