"""Matrix product for one row, y = activation(x @ w + bias) + residual, with a quantised weight.

A thread computes whole panels of columns. It decodes the weight in registers, and the partial sum of a block of KC rows
stays there as well:

               PANEL
            +--------+--------+-- --+--------+
            | ////// | thread 1           |  | KC         for each panel of a thread
            +--------+--------+-- --+--------+              for each block of KC rows
          K | ////// |        |     |        | KC             for each row: decode, multiply and add
            +--------+--------+-- --+--------+                add the partial sum to the sum
            | ////// |        |     |        |
            +--------+--------+-- --+--------+

An element is the same chain of operations as in `gemm.mojo` and `gemv.mojo`. More rows are computed by `gemm.mojo`,
which decodes a micro-panel once for all of them.
"""

from std.math import ceildiv

from .activations import activate
from .matrix import LinearWeights, Matrix
from .threads import ThreadTeam
from .tuning import CACHE_LINE, KC, PANEL_PREFETCH_BYTES
from .types import Floats, UntrackedBytes, Vector, W, load_masked, prefetch_l2, store_masked
from .weights import PANEL, TYPES, PanelRows, group_bytes, group_rows, is_quantised

#: Vectors of a row of a panel.
comptime PANEL_VECTORS = PANEL // W


@always_inline
def multiply_row[
    add_residual: Bool
](mut team: ThreadTeam, x: Matrix, layer: LinearWeights, residual: Matrix, y: Matrix, activation: Int):
    """Compute the layer's columns of y, [1, N], from x, [1, K], in the blocked layout, in one phase."""
    debug_assert[assert_mode="safe"](layer.first % PANEL == 0, "a layer starts within a panel")
    var first = layer.first // PANEL
    var panels = ceildiv(layer.last, PANEL) - first
    var threads = team.size

    def share(item: Int) {var}:
        for panel in range(first + item * panels // threads, first + (item + 1) * panels // threads):
            comptime for type in range(TYPES):
                comptime if is_quantised(type):
                    if type == layer.type:
                        _multiply_panel[type, add_residual](x, layer, residual, y, panel, activation)

    team.phase(threads, share)


def _multiply_panel[
    type: Int, add_residual: Bool
](x: Matrix, layer: LinearWeights, residual: Matrix, y: Matrix, panel: Int, activation: Int):
    """Compute the columns of one panel."""
    var values = Array[Vector, PANEL_VECTORS](fill=0)
    comptime for v in range(PANEL_VECTORS):
        var j = panel * PANEL + v * W
        values[v] = load_masked(layer.bias.unsafe_offset(j), layer.N - j)
    for k in range(0, layer.K, KC):
        var sums = _multiply_block[type](x.ptr(0, k), layer.block(k, panel * PANEL), min(KC, layer.K - k))
        comptime for v in range(PANEL_VECTORS):
            values[v] = sums[v] + values[v]
    comptime for v in range(PANEL_VECTORS):
        var j = panel * PANEL + v * W
        var count = min(W, layer.last - j)
        if count > 0:
            var value = activate(activation, values[v])
            comptime if add_residual:
                value = load_masked(residual.ptr(0, j), count) + value
            store_masked(y.ptr(0, j), value, count)


@always_inline
def _multiply_block[type: Int](x: Floats, block: UntrackedBytes, depth: Int) -> Array[Vector, PANEL_VECTORS]:
    """Return x, [depth], times a block of a panel, [depth, PANEL]."""
    comptime GROUP = group_rows(type)
    var sums = Array[Vector, PANEL_VECTORS](fill=0)
    var rows = PanelRows[type, PANEL_VECTORS](block, 0)
    for group in range(depth // GROUP):
        rows.enter_group(group)
        var ahead = block.unsafe_offset(group * comptime (group_bytes(type)) + PANEL_PREFETCH_BYTES)
        comptime for line in range(0, group_bytes(type), 4 * CACHE_LINE):
            prefetch_l2(ahead.unsafe_offset(line))
        comptime for eight in range(GROUP // 8):
            rows.enter_eight[eight]()
            comptime for row in range(8):
                var factor = Vector(x.unsafe_load(group * GROUP + comptime (8 * eight + row)))
                comptime for v in range(PANEL_VECTORS):
                    sums[v] = rows.values[row](v).fma(factor, sums[v])
    return sums^
