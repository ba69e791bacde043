"""A layer norm, (x - mean) / sqrt(var + eps) * weight + bias, of each row: Ba et al. 2016."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv, sqrt

from .crew import Crew, work_together
from .floats import F, Floats, Vector, W
from .rows import Rows, rows_of

#: How many rows a thread takes at a time.
comptime ROWS = 16


@extensibility.register("gpt2.layer_norm")
struct LayerNorm:
    """[tokens, n_embd], [n_embd], [n_embd] -> [tokens, n_embd]."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=2, ...],
        x: InputTensor[dtype=DType.float32, rank=2, ...],
        weight: InputTensor[dtype=DType.float32, rank=1, ...],
        bias: InputTensor[dtype=DType.float32, rank=1, ...],
        eps: Scalar[DType.float32],
        ctx: DeviceContext,
    ) raises:
        var x_rows = rows_of(x)
        var w_at = weight.unsafe_ptr()
        var b_at = bias.unsafe_ptr()
        var y_rows = rows_of(y)
        var M = x.dim_size(0)
        var N = x.dim_size(1)

        def work(crew: Crew) {var}:
            layer_norm(crew, 0, x_rows, w_at, b_at, y_rows, M, N, eps)

        work_together[1](work)


@always_inline
def layer_norm(
    crew: Crew, part: Int, x: Rows, weight: Floats, bias: Floats, y: Rows, M: Int, N: Int, eps: Scalar[F]
):
    """One part of what a crew does; rows of x are in one piece."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS, min((item + 1) * ROWS, M)):
            _row(x.at(m, 0), weight, bias, y.below(m), N, eps)

    crew.part(part, ceildiv(M, ROWS), rows)


def _row(x: Floats, weight: Floats, bias: Floats, y: Rows, N: Int, eps: Scalar[F]):
    var mean = _sum[squares=False](x, N, 0) / Scalar[F](N)
    var variance = _sum[squares=True](x, N, mean) / Scalar[F](N)
    var scale = 1 / sqrt(variance + eps)
    var i = 0
    while i + W <= N:
        var normed = (x.unsafe_load[width=W](i) - mean) * scale
        y.at(0, i).unsafe_store(0, normed.fma(weight.unsafe_load[width=W](i), bias.unsafe_load[width=W](i)))
        i += W
    while i < N:
        var normed = (x.unsafe_load(i) - mean) * scale
        y.at(0, i).unsafe_store(0, normed.fma(weight.unsafe_load(i), bias.unsafe_load(i)))
        i += 1


@always_inline
def _sum[squares: Bool](x: Floats, N: Int, mean: Scalar[F]) -> Scalar[F]:
    """The sum of x - mean, or of its squares."""
    var sums = Vector(0)
    var i = 0
    while i + W <= N:
        var value = x.unsafe_load[width=W](i) - mean
        sums += value * value if squares else value
        i += W
    var sum = sums.reduce_add()
    while i < N:
        var value = x.unsafe_load(i) - mean
        sum += value * value if squares else value
        i += 1
    return sum
