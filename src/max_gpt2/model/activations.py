"""The activation functions that GPT-2 checkpoints ask for by name."""

from typing import Literal

#: "none" and the six functions there are, as `kernels/activations.mojo` names them:
#: gelu_tanh is 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), gelu_erf x Phi(x) with the normal distribution's Phi,
#: quick_gelu x sigmoid(1.702 x): Hendrycks and Gimpel 2016, section 2; silu is x sigmoid(x).
Activation = Literal["none", "gelu_tanh", "gelu_erf", "quick_gelu", "relu", "silu", "tanh"]

#: Hugging Face has several names for some of them.
FUNCTIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
