"""A linear layer, activation(x @ weight + bias), with weight [in, out] as in GPT-2's checkpoints.

Vectors run along the columns of the weight. Every element of y is the bias plus one partial sum for each KC rows of the
weight, and a partial sum is a chain of fused multiply-adds in the order of the rows. So a row of y is bitwise identical
regardless of the other rows, of the number of threads, and of the choice between `gemv` and `gemm`.
"""

import extensibility
from max.gpu.host import DeviceContext
from std.math import ceildiv

from .activations import NONE
from .gemm import gemm
from .gemv import PartialSums, gemv, reduce_partial_sums
from .matrix import LinearWeights, Matrix, Workspace, copy_rows
from .quantised import multiply_row
from .threads import ThreadTeam, WorkPartition, run_team
from .tuning import GEMV_MAX_ROWS, NR
from .types import ByteTensor1D, FloatTensor1D, FloatTensor2D, IntTensor1D, ResultTensor2D, UntrackedFloats, W
from .types import load_masked, store_masked, untracked, untracked_bytes
from .weights import is_quantised


@extensibility.register("gpt2.linear")
struct Linear:
    """Apply a linear layer: x [tokens, in], weight [in, out] as bytes, numbers [2], bias [out] -> [tokens, out].

    `numbers` are the type of the weight and the activation function.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        x: FloatTensor2D,
        weight: ByteTensor1D,
        numbers: IntTensor1D,
        bias: FloatTensor1D,
        ctx: DeviceContext,
    ) raises:
        var M = x.dim_size(0)
        debug_assert[assert_mode="safe"](numbers.dim_size(0) == 2, "numbers is not [2]")
        var type = Int(numbers.unsafe_ptr().unsafe_load(0))
        var activation = Int(numbers.unsafe_ptr().unsafe_load(1))
        var bias_ptr = untracked(bias.unsafe_ptr())
        var layer = LinearWeights(untracked_bytes(weight), type, bias_ptr, x.dim_size(1), bias.dim_size(0))
        debug_assert[assert_mode="safe"](weight.dim_size(0) == layer.bytes(), "weight is not [in, out] of this type")
        debug_assert[assert_mode="safe"](y.dim_size(0) == M and y.dim_size(1) == layer.N, "y is not [tokens, out]")
        var x_size = Matrix.blocked_size(M, layer.K)
        var sums_size = PartialSums.size(M, layer.K, layer.N)
        var workspace = Workspace(x_size + sums_size)
        var x_rows = Matrix.row_major(x)  # [tokens, in]
        var x_blocked = Matrix.blocked(workspace.take(x_size), M)  # [tokens, in]
        var sums = workspace.take(sums_size)
        var y_rows = Matrix.row_major(y)  # [tokens, out]

        def work(mut team: ThreadTeam) {var}:
            copy_rows(team, x_rows, x_blocked, M, layer.K)
            linear(team, x_blocked, layer, y_rows, M, sums, activation)

        run_team(3, work)
        workspace.free()


@always_inline
def linear(
    mut team: ThreadTeam,
    x: Matrix,
    layer: LinearWeights,
    y: Matrix,
    M: Int,
    sums: UntrackedFloats,
    activation: Int = NONE,
):
    """Compute the layer's columns of y, [M, N], from x, [M, K], in the blocked layout: one phase, or two for few rows.

    `sums` has `PartialSums.size(M, K, columns)` floats.
    """
    if _has_few_rows[False](team, x, layer, y, y, M, sums, activation):
        return
    var items = _ColumnItems(layer, team.size)

    def compute(item: Int) {var}:
        gemm(x, items.layer(item), y, M, items.next(item), activation)

    team.phase(items.partition.count(), compute)


@always_inline
def linear_residual(
    mut team: ThreadTeam, x: Matrix, layer: LinearWeights, residual: Matrix, y: Matrix, M: Int, sums: UntrackedFloats
):
    """Compute residual + x @ weight + bias. Rows of the residual and of y, both [M, N], are contiguous."""
    if _has_few_rows[True](team, x, layer, residual, y, M, sums, NONE):
        return
    var items = _ColumnItems(layer, team.size)

    def compute(item: Int) {var}:
        var part = items.layer(item)
        gemm(x, part, y, M, items.next(item), NONE)
        for m in range(M):
            var before = residual.ptr(m, 0)
            var after = y.ptr(m, 0)
            for j in range(part.first, part.last, W):
                var count = part.last - j
                var sum = load_masked(before.unsafe_offset(j), count) + load_masked(after.unsafe_offset(j), count)
                store_masked(after.unsafe_offset(j), sum, count)

    team.phase(items.partition.count(), compute)


@always_inline
def _has_few_rows[
    add_residual: Bool
](
    mut team: ThreadTeam,
    x: Matrix,
    layer: LinearWeights,
    residual: Matrix,
    y: Matrix,
    M: Int,
    sums: UntrackedFloats,
    activation: Int,
) -> Bool:
    """Compute the layer and return True if M rows are too few for `gemm`."""
    if is_quantised(layer.type):
        if M == 1:
            multiply_row[add_residual](team, x, layer, residual, y, activation)
            return True
    elif M <= GEMV_MAX_ROWS:
        _gemv_phases[add_residual](team, x, layer, residual, y, M, sums, activation)
        return True
    return False


@always_inline
def _gemv_phases[
    add_residual: Bool
](
    mut team: ThreadTeam,
    x: Matrix,
    layer: LinearWeights,
    residual: Matrix,
    y: Matrix,
    M: Int,
    data: UntrackedFloats,
    activation: Int,
):
    """Compute the partial sums in one phase and y in the next, each thread an equal share."""
    var sums = PartialSums(data, M, layer)
    var threads = team.size
    var panels = sums.panels()
    var all_panels = panels * sums.blocks()

    def multiply(item: Int) {var}:
        gemv(x, sums, item * all_panels // threads, (item + 1) * all_panels // threads)

    def reduce(item: Int) {var}:
        reduce_partial_sums[add_residual](
            sums, residual, y, item * panels // threads, (item + 1) * panels // threads, activation
        )

    team.phase(threads, multiply)
    team.phase(threads, reduce)


struct _ColumnItems(TrivialRegisterPassable):
    """The columns of a layer, partitioned into work items of whole micro-panels. An item's length is NC."""

    var whole: LinearWeights
    var partition: WorkPartition

    def __init__(out self, layer: LinearWeights, threads: Int):
        self.whole = layer
        self.partition = WorkPartition(ceildiv(layer.last - layer.first, NR), threads)

    @always_inline
    def first(self, item: Int) -> Int:
        """Return the first column of an item."""
        return min(self.whole.first + self.partition.start(item) * NR, self.whole.last)

    @always_inline
    def layer(self, item: Int) -> LinearWeights:
        """Return the layer restricted to an item."""
        return self.whole.columns(self.first(item), self.first(item + 1))

    @always_inline
    def next(self, item: Int) -> Int:
        """Return the first column of the item that the same thread is most likely to take next."""
        return self.first(item + self.partition.threads)
