"""The functions between the two layers of an MLP, by the names that `activations.py` gives them."""

from std.math import erf, exp, tanh

from .floats import Vector

comptime ROOT_2_OVER_PI = 0.7978845608028654
comptime ROOT_HALF = 0.7071067811865476


@always_inline
def activate[name: StaticString](x: Vector) -> Vector:
    """The function of every element."""
    comptime if name == "none":
        return x
    elif name == "gelu_tanh":
        return 0.5 * x * (1 + tanh(ROOT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    elif name == "gelu_erf":
        return 0.5 * x * (1 + erf(ROOT_HALF * x))
    elif name == "quick_gelu":
        return x * _sigmoid(1.702 * x)
    elif name == "relu":
        return max(x, 0)
    elif name == "silu":
        return x * _sigmoid(x)
    elif name == "tanh":
        return tanh(x)
    else:
        comptime assert False, "no such activation"


@always_inline
def _sigmoid(x: Vector) -> Vector:
    return 1 / (1 + exp(-x))
