"""Step 06: position embeddings."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import DimLike

from steps.step_01 import GPT2Config


class GPT2PositionEmbeddings(Module[[DimLike], Tensor]):
    """A table with a learned vector for each position (`wpe` in checkpoints); attention itself ignores the order."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the table, `weight` [n_positions, n_embd]; a checkpoint provides the values."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2PositionEmbeddings.__init__")

    def forward(self, seq: DimLike) -> Tensor:
        """Return the vectors of positions 0 to seq - 1: [seq, n_embd]. `seq` may be a symbolic dimension."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2PositionEmbeddings.forward")
