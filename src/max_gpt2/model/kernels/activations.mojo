"""The activation functions of the MLP, named as in `config.py`.

gelu_tanh is the approximation of Hendrycks and Gimpel 2016, section 2, gelu_erf the exact function, x * Phi(x), and
quick_gelu the approximation x * sigmoid(1.702 * x) of the same section.
"""

from std.math import erf, exp, tanh

from .types import Vector

comptime SQRT_2_OVER_PI = 0.7978845608028654
comptime SQRT_HALF = 0.7071067811865476


#: The numbers of the functions: their order in `Activation` of `config.py`.
comptime NONE = 0
comptime GELU_TANH = 1
comptime GELU_ERF = 2
comptime QUICK_GELU = 3
comptime RELU = 4
comptime SILU = 5
comptime TANH = 6


@always_inline
def activate(function: Int, x: Vector) -> Vector:
    """Return an activation function of every element; NONE is the identity."""
    return x if function == NONE else _apply(function, x)


@no_inline  # inlined, every function would be compiled into every product
def _apply(function: Int, x: Vector) -> Vector:
    if function == GELU_TANH:
        return 0.5 * x * (1 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    if function == GELU_ERF:
        return 0.5 * x * (1 + erf(SQRT_HALF * x))
    if function == QUICK_GELU:
        return x * _sigmoid(1.702 * x)
    if function == RELU:
        return max(x, 0)
    if function == SILU:
        return x * _sigmoid(x)
    debug_assert[assert_mode="safe"](function == TANH, "unknown activation function")
    return tanh(x)


@always_inline
def _sigmoid(x: Vector) -> Vector:
    return 1 / (1 + exp(-x))
