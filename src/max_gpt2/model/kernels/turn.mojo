"""The order in which the two ways to multiply add up: it makes a number the same bit for bit in both."""

from .activations import activate
from .floats import Floats, MutFloats, Vector, W, load_part, store_part

#: How many rows of w make one sum.
comptime DEPTH = 256
#: How many columns of w are added up together.
comptime PANEL = 2 * W


@fieldwise_init
struct Turn(TrivialRegisterPassable):
    """Which of the sums that make an element it is: the first goes with the bias, the last through the activation."""

    var first: Bool
    var last: Bool

    @always_inline
    def add[activation: StaticString](self, bias: Floats, y: MutFloats, sum: Vector, count: Int):
        """Add a sum to `count` elements of y."""
        var value = sum + (load_part(bias, count) if self.first else load_part(y, count))
        store_part(y, activate[activation](value) if self.last else value, count)
