"""Causal self-attention."""

from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from max_gpt2.config import GPT2Config
from max_gpt2.model.layers import Conv1D
from max_gpt2.model.operations import Operations


class Attention(Module[..., Tensor]):
    """Multi-head attention with a fused query, key and value layer: Vaswani et al. 2017, section 3.2."""

    def __init__(self, config: GPT2Config, operations: Operations) -> None:
        """Make the two linear layers."""
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd, operations)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, operations)
        self.operations = operations

    def forward(self, x: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """Attend: [tokens, n_embd] -> [tokens, n_embd]; the rest is that of `Operations.attention`."""
        return self.c_proj(self.operations.attention(self.c_attn(x), layer, scale, *texts))
