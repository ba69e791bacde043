"""Step 08: attention."""

import math

from max.experimental import functional as F
from max.experimental.tensor import Tensor

from steps.step_02 import causal_mask


def compute_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the average of the values each token attends to: softmax(query key^T / sqrt(head_dim) + mask) value.

    Query, key, value and the result are [..., seq, head_dim]. Without the division, the scores would grow with
    head_dim, and the softmax would put nearly all of its weight on a single token.
    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    # TODO: replace the line below.
    raise NotImplementedError("compute_attention")
