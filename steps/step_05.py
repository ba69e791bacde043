"""Step 05: token embeddings."""

from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from steps.step_01 import GPT2Config


class GPT2Embeddings(Module[[Tensor], Tensor]):
    """A table with a learned vector for each token of the vocabulary (`wte` in checkpoints)."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the table, `weight` [vocab, n_embd]; a checkpoint provides the values."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2Embeddings.__init__")

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up each id: [batch, seq] -> [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2Embeddings.forward")
