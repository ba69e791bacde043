"""A layer norm, (x - mean) / sqrt(var + eps) * weight + bias, of each row: Ba et al. 2016."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from max.runtime.asyncrt import parallelism_level
from std.math import ceildiv, sqrt

from .floats import F, Floats, MutFloats, Vector, W

#: Fewer rows than this are not worth the hand-over to another thread.
comptime WORTH_A_THREAD = 16


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
        var M = x.dim_size(0)
        var N = x.dim_size(1)
        var share = max(WORTH_A_THREAD, ceildiv(M, parallelism_level(None)))
        var from_ = x.unsafe_ptr()
        var to = y.unsafe_ptr()
        var w = weight.unsafe_ptr()
        var b = bias.unsafe_ptr()

        def rows(thread: Int) {var}:
            for m in range(thread * share, min((thread + 1) * share, M)):
                _row(from_.unsafe_offset(m * N), w, b, to.unsafe_offset(m * N), N, eps)

        if M <= share:
            rows(0)
        else:
            sync_parallelize(rows, ceildiv(M, share))


def _row(x: Floats, weight: Floats, bias: Floats, y: MutFloats, N: Int, eps: Scalar[F]):
    var mean = _sum[squares=False](x, N, 0) / Scalar[F](N)
    var variance = _sum[squares=True](x, N, mean) / Scalar[F](N)
    var scale = 1 / sqrt(variance + eps)
    var i = 0
    while i + W <= N:
        var normed = (x.unsafe_load[width=W](i) - mean) * scale
        y.unsafe_store(i, normed.fma(weight.unsafe_load[width=W](i), bias.unsafe_load[width=W](i)))
        i += W
    while i < N:
        var normed = (x.unsafe_load(i) - mean) * scale
        y.unsafe_store(i, normed.fma(weight.unsafe_load(i), bias.unsafe_load(i)))
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
