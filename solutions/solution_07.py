"""Step 07: query, key and value."""

from max.experimental import functional as F
from max.experimental.nn import Linear, TransparentModule
from max.experimental.tensor import Tensor

from solutions.solution_01 import GPT2Config


class GPT2SingleHeadQKV(TransparentModule[[Tensor], tuple[Tensor, Tensor, Tensor]]):
    """Make from each token what it looks for (query), what it can be found by (key) and what it has to say (value).

    One layer makes all three; each is as wide as the model, as if there were a single head. The module is transparent:
    the attention that holds it calls its weight `c_attn.weight`, with no name in between, just as the checkpoint does.
    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Make the layer; its output holds query, key and value side by side, in this order."""
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=True)
        self.n_embd = config.n_embd

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key, value: [batch, seq, n_embd] -> three of [batch, seq, n_embd]."""
        qkv = self.c_attn(x)  # [batch, seq, n_embd] -> [batch, seq, 3 * n_embd]
        query, key, value = F.split(qkv, [self.n_embd, self.n_embd, self.n_embd], axis=-1)
        return query, key, value
