"""Step 07: query, key and value."""

from max.experimental import functional as F
from max.experimental.nn import Linear, TransparentModule
from max.experimental.tensor import Tensor

from solutions.solution_01 import GPT2Config


class GPT2SingleHeadQKV(TransparentModule[[Tensor], tuple[Tensor, Tensor, Tensor]]):
    """Project each token's vector to a query (looks for something), a key (can be found) and a value (is passed on).

    One layer computes all three; each is as wide as the model, as if there were a single head. The module is
    transparent: within the attention, its weight is called `c_attn.weight`, as in checkpoints.
    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the layer; its output holds query, key and value side by side, in this order."""
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=True)
        self.n_embd = config.n_embd

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value: [batch, seq, n_embd] -> three of [batch, seq, n_embd]."""
        qkv = self.c_attn(x)  # [batch, seq, n_embd] -> [batch, seq, 3 * n_embd]
        query, key, value = F.split(qkv, [self.n_embd, self.n_embd, self.n_embd], axis=-1)
        return query, key, value
