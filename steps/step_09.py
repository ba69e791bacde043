"""Step 09: multi-head attention."""

from max.experimental.nn import Linear, Module
from max.experimental.tensor import Tensor

from steps.step_01 import GPT2Config
from steps.step_07 import GPT2SingleHeadQKV
from steps.step_08 import compute_attention


class GPT2MultiHeadAttention(Module[[Tensor], Tensor]):
    """Split query, key and value into `n_head` heads, attend within each, and combine the results.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the layer before the heads (step 07) and the one after them, `c_proj`."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2MultiHeadAttention.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Apply multi-head attention: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2MultiHeadAttention.forward")

    def split_heads(self, x: Tensor) -> Tensor:
        """Split the width into heads: [batch, seq, n_embd] -> [batch, n_head, seq, head_dim]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2MultiHeadAttention.split_heads")

    def merge_heads(self, x: Tensor) -> Tensor:
        """Undo `split_heads`: [batch, n_head, seq, head_dim] -> [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2MultiHeadAttention.merge_heads")
