"""Step 04: the MLP, which processes each token on its own."""

from max.experimental import functional as F
from max.experimental.nn import Linear, Module
from max.experimental.tensor import Tensor

from steps.step_01 import GPT2Config


class GPT2MLP(Module[[Tensor], Tensor]):
    """Expand each token's vector to `intermediate_size`, apply GELU, and project it back to n_embd.

    GPT-2 uses the tanh form of GELU: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """

    def __init__(self, intermediate_size: int, config: GPT2Config) -> None:
        """Create the two layers, named as in checkpoints."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2MLP.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP to every token: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2MLP.forward")
