"""The activation functions that GPT-2 checkpoints ask for by name."""

from collections.abc import Callable

from max.experimental import functional as F
from max.experimental.tensor import Tensor

Activation = Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): five of Hugging Face's names are this one formula."""
    return F.gelu(x, approximate="tanh")


def _gelu_erf(x: Tensor) -> Tensor:
    """Return x Phi(x), Phi being the normal distribution's: Hendrycks and Gimpel 2016, section 2."""
    return F.gelu(x, approximate="none")


def _quick_gelu(x: Tensor) -> Tensor:
    """Return x sigmoid(1.702 x): Hendrycks and Gimpel 2016, section 2."""
    return x * F.sigmoid(x * 1.702)


FUNCTIONS: dict[str, Activation] = {
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu": _gelu_erf,
    "gelu_python": _gelu_erf,
    "quick_gelu": _quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": F.tanh,
}
