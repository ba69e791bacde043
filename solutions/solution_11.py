"""Step 11: the transformer block."""

from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from solutions.solution_01 import GPT2Config
from solutions.solution_03 import LayerNorm
from solutions.solution_04 import GPT2MLP
from solutions.solution_09 import GPT2MultiHeadAttention
from solutions.solution_10 import ResidualBlock


class GPT2Block(Module[[Tensor], Tensor]):
    """One layer of GPT-2: attention exchanges information between tokens, then the MLP processes each token."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the four submodules, named as in checkpoints."""
        self.ln_1 = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPT2MultiHeadAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config.n_inner or 4 * config.n_embd, config)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        x = ResidualBlock(self.ln_1, self.attn)(x)
        return ResidualBlock(self.ln_2, self.mlp)(x)
