"""Step 08: attention."""

import math

from max.experimental import functional as F
from max.experimental.tensor import Tensor

from solutions.solution_02 import causal_mask


def compute_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the average of the values each token attends to: softmax(query key^T / sqrt(head_dim) + mask) value.

    Query, key, value and the result are [..., seq, head_dim]. Without the division, the scores would grow with
    head_dim, and the softmax would put nearly all of its weight on a single token.
    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    seq, head_dim = query.shape[-2], int(query.shape[-1])
    scores = query @ key.transpose(-2, -1)  # [..., seq, seq]
    scores = scores / math.sqrt(head_dim) + causal_mask(seq)
    weights = F.softmax(scores)  # over the keys: each row sums to 1
    return weights @ value  # [..., seq, seq] @ [..., seq, head_dim] -> [..., seq, head_dim]
