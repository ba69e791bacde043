"""Step 05: token embeddings."""

from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from steps.step_01 import GPT2Config


class GPT2Embeddings(Module[[Tensor], Tensor]):
    """A table with one learned vector for each token of the vocabulary (`wte` in the checkpoint)."""

    def __init__(self, config: GPT2Config) -> None:
        """Make room for the table, `weight` [vocab, n_embd]; the checkpoint fills it."""
        # TODO: replace the line below; `make hint STEP=5` helps.
        raise NotImplementedError("GPT2Embeddings.__init__")

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look every id up: [batch, seq] -> [batch, seq, n_embd]."""
        # TODO: replace the line below; `make hint STEP=5` helps.
        raise NotImplementedError("GPT2Embeddings.forward")
