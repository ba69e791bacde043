"""Step 10: the residual connection."""

from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from steps.step_03 import LayerNorm


def apply_residual_connection(x: Tensor, change: Tensor) -> Tensor:
    """Add a layer's output to its input, so that the layer only has to learn the change.

    Both arguments and the result are [batch, seq, n_embd].
    Source: He et al. 2015, "Deep Residual Learning", equation 1.
    """
    # TODO: replace the line below.
    raise NotImplementedError("apply_residual_connection")


class ResidualBlock(Module[[Tensor], Tensor]):
    """A layer on the residual stream. GPT-2 normalizes the input of the layer ("pre-norm"), never the stream itself."""

    def __init__(self, norm: LayerNorm, layer: Module[[Tensor], Tensor]) -> None:
        """Take the normalization and the layer, an attention or an MLP."""
        # TODO: replace the line below.
        raise NotImplementedError("ResidualBlock.__init__")

    def forward(self, x: Tensor) -> Tensor:
        """Return x + layer(norm(x)): [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("ResidualBlock.forward")
