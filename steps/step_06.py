"""Step 06: position embeddings."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import DimLike

from steps.step_01 import GPT2Config


class GPT2PositionEmbeddings(Module[[DimLike], Tensor]):
    """A table with one learned vector for each position (`wpe` in the checkpoint): attention alone knows no order."""

    def __init__(self, config: GPT2Config) -> None:
        """Make room for the table, `weight` [n_positions, n_embd]; the checkpoint fills it."""
        # TODO: replace the line below; `make hint STEP=6` helps.
        raise NotImplementedError("GPT2PositionEmbeddings.__init__")

    def forward(self, seq: DimLike) -> Tensor:
        """Return the vectors of the positions 0 .. seq - 1: [seq, n_embd]. `seq` may be a symbolic dimension."""
        # TODO: replace the line below; `make hint STEP=6` helps.
        raise NotImplementedError("GPT2PositionEmbeddings.forward")
