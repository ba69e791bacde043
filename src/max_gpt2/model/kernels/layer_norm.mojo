"""Layer normalization, (x - mean) / sqrt(var + eps) * weight + bias, of each row: Ba et al. 2016."""

import extensibility
from max.gpu.host import DeviceContext
from std.math import ceildiv, sqrt

from .matrix import Matrix
from .threads import ThreadTeam, run_team
from .tuning import ROWS_PER_ITEM
from .types import F32, Floats, FloatTensor1D, FloatTensor2D, ResultTensor2D, UntrackedFloats, Vector, W, untracked


@extensibility.register("gpt2.layer_norm")
struct LayerNorm:
    """Normalize each row: x [tokens, n_embd], weight [n_embd], bias [n_embd] -> [tokens, n_embd]."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        x: FloatTensor2D,
        weight: FloatTensor1D,
        bias: FloatTensor1D,
        eps: Scalar[F32],
        ctx: DeviceContext,
    ) raises:
        var M = x.dim_size(0)
        var norm = NormWeights(untracked(weight.unsafe_ptr()), untracked(bias.unsafe_ptr()), weight.dim_size(0), eps)
        debug_assert[assert_mode="safe"](x.dim_size(1) == norm.N, "x is not [tokens, n_embd] of weight [n_embd]")
        debug_assert[assert_mode="safe"](bias.dim_size(0) == norm.N, "weight and bias are not both [n_embd]")
        debug_assert[assert_mode="safe"](y.dim_size(0) == M and y.dim_size(1) == norm.N, "y is not [tokens, n_embd]")
        var x_rows = Matrix.row_major(x)  # [tokens, n_embd]
        var y_rows = Matrix.row_major(y)  # [tokens, n_embd]

        def work(mut team: ThreadTeam) {var}:
            layer_norm(team, x_rows, norm, y_rows, M)

        run_team(1, work)


@fieldwise_init
struct NormWeights(TrivialRegisterPassable):
    """The parameters of a layer norm over rows of N elements."""

    var weight: UntrackedFloats  # [N]
    var bias: UntrackedFloats  # [N]
    var N: Int
    var eps: Scalar[F32]


@always_inline
def layer_norm(mut team: ThreadTeam, x: Matrix, norm: NormWeights, y: Matrix, M: Int):
    """Normalize x, [M, N], in one phase. Rows of x are contiguous; y, [M, N], has any layout."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS_PER_ITEM, min((item + 1) * ROWS_PER_ITEM, M)):
            _normalize_row(x.ptr(m, 0), norm, y.from_row(m))

    team.phase(ceildiv(M, ROWS_PER_ITEM), rows)


def _normalize_row(x: Floats, norm: NormWeights, y: Matrix):
    var N = norm.N
    var mean = _sum[squares=False](x, N, 0) / Scalar[F32](N)
    var variance = _sum[squares=True](x, N, mean) / Scalar[F32](N)
    var scale = 1 / sqrt(variance + norm.eps)
    var i = 0
    while i + W <= N:
        var normed = (x.unsafe_load[width=W](i) - mean) * scale
        var weight = norm.weight.unsafe_load[width=W](i)
        y.ptr(0, i).unsafe_store(0, normed.fma(weight, norm.bias.unsafe_load[width=W](i)))
        i += W
    while i < N:
        var normed = (x.unsafe_load(i) - mean) * scale
        y.ptr(0, i).unsafe_store(0, normed.fma(norm.weight.unsafe_load(i), norm.bias.unsafe_load(i)))
        i += 1


@always_inline
def _sum[squares: Bool](x: Floats, N: Int, mean: Scalar[F32]) -> Scalar[F32]:
    """Return the sum of x - mean, or of its squares, over N elements."""
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
