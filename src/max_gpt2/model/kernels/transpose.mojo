"""W rows of W numbers, turned into columns."""

from std.bit import log2_floor

from .floats import Floats, MutFloats, Vector, W


@always_inline
def transpose(x: Floats, x_stride: Int, y: MutFloats, y_stride: Int):
    """Store [W, W] of x as its transpose: the rows of each are a stride apart.

    Each round takes apart what lies half the rows apart and shuffles it together, as one shuffles cards. After as many
    rounds as W can be halved, the number of a row and the number within it have changed places.
    """
    var rows = Array[Vector, W](fill=0)
    comptime for i in range(W):
        rows[i] = x.unsafe_load[width=W](i * x_stride)
    comptime for _ in range(log2_floor(W)):
        var shuffled = Array[Vector, W](fill=0)
        comptime for i in range(W // 2):
            var both = rows[i].interleave(rows[i + W // 2])
            shuffled[2 * i] = both.slice[W, offset=0]()
            shuffled[2 * i + 1] = both.slice[W, offset=W]()
        rows = shuffled^
    comptime for i in range(W):
        y.unsafe_store(i * y_stride, rows[i])
