"""Step 07: query, key and value."""

from max.experimental import functional as F
from max.experimental.nn import Linear, TransparentModule
from max.experimental.tensor import Tensor

from steps.step_01 import GPT2Config


class GPT2SingleHeadQKV(TransparentModule[[Tensor], tuple[Tensor, Tensor, Tensor]]):
    """Project each token's vector to a query (looks for something), a key (can be found) and a value (is passed on).

    One layer computes all three; each is as wide as the model, as if there were a single head. The module is
    transparent: within the attention, its weight is called `c_attn.weight`, as in checkpoints.
    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the layer; its output holds query, key and value side by side, in this order."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2SingleHeadQKV.__init__")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value: [batch, seq, n_embd] -> three of [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2SingleHeadQKV.forward")
