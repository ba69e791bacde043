"""Step 05: token embeddings."""

from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from solutions.solution_01 import GPT2Config


class GPT2Embeddings(Module[[Tensor], Tensor]):
    """A table with a learned vector for each token of the vocabulary (`wte` in checkpoints)."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the table, `weight` [vocab, n_embd]; a checkpoint provides the values."""
        self.weight = Tensor.zeros([config.vocab_size, config.n_embd])

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up each id: [batch, seq] -> [batch, seq, n_embd]."""
        return F.gather(self.weight, input_ids, axis=0)
