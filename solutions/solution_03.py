"""Step 03: layer normalization."""

from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor


class LayerNorm(Module[[Tensor], Tensor]):
    """Normalize each token's vector to mean 0 and variance 1, then apply a learned scale and shift.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, with mean and (biased) variance over the last axis.
    Source: Ba et al. 2016, "Layer Normalization".
    """

    def __init__(self, dim: int, *, eps: float = 1e-5) -> None:
        """Create `weight`, all ones, and `bias`, all zeros; both are [dim]."""
        self.weight = Tensor.ones([dim])
        self.bias = Tensor.zeros([dim])
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis: [batch, seq, dim] -> [batch, seq, dim]."""
        return F.layer_norm(x, gamma=self.weight, beta=self.bias, epsilon=self.eps)
