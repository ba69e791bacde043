"""Step 09: multi-head attention."""

from max.experimental.nn import Linear, Module
from max.experimental.tensor import Tensor

from solutions.solution_01 import GPT2Config
from solutions.solution_07 import GPT2SingleHeadQKV
from solutions.solution_08 import compute_attention


class GPT2MultiHeadAttention(Module[[Tensor], Tensor]):
    """Split query, key and value into `n_head` heads, attend within each, and combine the results.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the layer before the heads (step 07) and the one after them, `c_proj`."""
        self.qkv = GPT2SingleHeadQKV(config)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=True)
        self.n_head = config.n_head
        self.head_dim = config.n_embd // config.n_head

    def forward(self, x: Tensor) -> Tensor:
        """Apply multi-head attention: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        query, key, value = (self.split_heads(part) for part in self.qkv(x))
        found = compute_attention(query, key, value)  # [batch, n_head, seq, head_dim]
        return self.c_proj(self.merge_heads(found))

    def split_heads(self, x: Tensor) -> Tensor:
        """Split the width into heads: [batch, seq, n_embd] -> [batch, n_head, seq, head_dim]."""
        batch, seq, _ = x.shape
        return x.reshape([batch, seq, self.n_head, self.head_dim]).transpose(1, 2)

    def merge_heads(self, x: Tensor) -> Tensor:
        """Undo `split_heads`: [batch, n_head, seq, head_dim] -> [batch, seq, n_embd]."""
        batch, _, seq, _ = x.shape
        return x.transpose(1, 2).reshape([batch, seq, self.n_head * self.head_dim])
