"""Causal self-attention."""

from max.experimental import functional as F
from max.experimental.nn import Linear, Module
from max.experimental.tensor import Tensor

from max_gpt2.config import GPT2Config
from max_gpt2.model.cache import LayerCache, extend


class Attention(Module[..., Tensor]):
    """Multi-head attention with a fused query, key and value layer: Vaswani et al. 2017, section 3.2."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the two linear layers."""
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=True)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=True)
        self.n_head = config.n_head
        self.head_dim = config.head_dim

    def forward(self, x: Tensor, scale: Tensor, mask: Tensor, *cache: Tensor) -> Tensor:
        """Attend to what the mask shows: [batch, seq, n_embd] -> [batch, seq, n_embd].

        `scale` is that of the scores, a scalar; `mask` [batch, 1, seq, total] is added to them. `cache` is a
        `LayerCache`, whose keys and values come before those of `x`, or nothing.
        """
        batch, seq, n_embd = x.shape
        parts = F.split(self.c_attn(x), [n_embd, n_embd, n_embd], axis=-1)
        query, key, value = (part.reshape([batch, seq, self.n_head, self.head_dim]) for part in parts)
        if cache:
            key, value = extend(LayerCache(*cache), key, value, mask.shape[3])
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))  # [batch, n_head, ..., head_dim]
        weights = F.softmax(query @ key.transpose(-2, -1) * scale + mask)  # [batch, n_head, seq, total]
        mixed = (weights @ value).transpose(1, 2).reshape([batch, seq, n_embd])
        return self.c_proj(mixed)
