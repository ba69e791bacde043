"""Step 04: the MLP, which processes each token on its own."""

from max.experimental import functional as F
from max.experimental.nn import Linear, Module
from max.experimental.tensor import Tensor

from solutions.solution_01 import GPT2Config


class GPT2MLP(Module[[Tensor], Tensor]):
    """Expand each token's vector to `intermediate_size`, apply GELU, and project it back to n_embd.

    GPT-2 uses the tanh form of GELU: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """

    def __init__(self, intermediate_size: int, config: GPT2Config) -> None:
        """Create the two layers, named as in checkpoints."""
        self.c_fc = Linear(config.n_embd, intermediate_size, bias=True)
        self.c_proj = Linear(intermediate_size, config.n_embd, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP to every token: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        x = self.c_fc(x)  # [batch, seq, n_embd] -> [batch, seq, intermediate_size]
        x = F.gelu(x, approximate="tanh")
        return self.c_proj(x)  # [batch, seq, intermediate_size] -> [batch, seq, n_embd]
