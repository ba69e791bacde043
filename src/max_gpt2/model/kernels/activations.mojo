"""The activation functions of the MLP, named as in `config.py`.

gelu_tanh is the approximation of Hendrycks and Gimpel 2016, section 2, gelu_erf the exact function, x * Phi(x), and
quick_gelu the approximation x * sigmoid(1.702 * x) of the same section.
"""

from std.math import erf, exp, tanh

from .types import Vector

comptime SQRT_2_OVER_PI = 0.7978845608028654
comptime SQRT_HALF = 0.7071067811865476


@always_inline
def activate[name: StaticString](x: Vector) -> Vector:
    """Return the activation function of every element; "none" is the identity.

    The name is a compile-time parameter, so each layer is compiled with its function inlined.
    """
    comptime if name == "none":
        return x
    elif name == "gelu_tanh":
        return 0.5 * x * (1 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    elif name == "gelu_erf":
        return 0.5 * x * (1 + erf(SQRT_HALF * x))
    elif name == "quick_gelu":
        return x * _sigmoid(1.702 * x)
    elif name == "relu":
        return max(x, 0)
    elif name == "silu":
        return x * _sigmoid(x)
    elif name == "tanh":
        return tanh(x)
    else:
        comptime assert False, "unknown activation function"


@always_inline
def _sigmoid(x: Vector) -> Vector:
    return 1 / (1 + exp(-x))
