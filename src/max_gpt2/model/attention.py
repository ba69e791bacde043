"""Causal self-attention."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Linear, Module
from max.experimental.tensor import Tensor

from max_gpt2.config import GPT2Config


class Attention(Module[[Tensor, Tensor], Tensor]):
    """Multi-head causal attention with a fused query, key and value layer: Vaswani et al. 2017, section 3.2."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the two linear layers."""
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=True)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=True)
        self.n_head = config.n_head
        self.head_dim = config.head_dim

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        """Attend: [batch, seq, n_embd] and the scale of the scores, a scalar -> [batch, seq, n_embd]."""
        batch, seq, n_embd = x.shape
        parts = F.split(self.c_attn(x), [n_embd, n_embd, n_embd], axis=-1)
        heads = (part.reshape([batch, seq, self.n_head, self.head_dim]).transpose(1, 2) for part in parts)
        query, key, value = heads  # [batch, n_head, seq, head_dim]
        # MAX 26.7 fuses these lines into one kernel, which loses a mask that is made by comparing positions (F.where)
        # and keeps one that is made by band_part.
        hidden = F.broadcast_to(Tensor(float("-inf"), dtype=DType.float32), [seq, seq])
        mask = F.band_part(hidden, num_lower=None, num_upper=0, exclude=True)
        weights = F.softmax(query @ key.transpose(-2, -1) * scale + mask)  # [batch, n_head, seq, seq]
        mixed = (weights @ value).transpose(1, 2).reshape([batch, seq, n_embd])
        return self.c_proj(mixed)
