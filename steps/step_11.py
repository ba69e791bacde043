"""Step 11: the transformer block."""

from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from steps.step_01 import GPT2Config
from steps.step_03 import LayerNorm
from steps.step_04 import GPT2MLP
from steps.step_09 import GPT2MultiHeadAttention
from steps.step_10 import ResidualBlock


class GPT2Block(Module[[Tensor], Tensor]):
    """One layer of GPT-2: attention exchanges information between tokens, then the MLP processes each token."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the four submodules, named as in checkpoints."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2Block.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2Block.forward")
