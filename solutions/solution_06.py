"""Step 06: position embeddings."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import DimLike

from solutions.solution_01 import GPT2Config


class GPT2PositionEmbeddings(Module[[DimLike], Tensor]):
    """A table with a learned vector for each position (`wpe` in checkpoints); attention itself ignores the order."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the table, `weight` [n_positions, n_embd]; a checkpoint provides the values."""
        self.weight = Tensor.zeros([config.n_positions, config.n_embd])

    def forward(self, seq: DimLike) -> Tensor:
        """Return the vectors of positions 0 to seq - 1: [seq, n_embd]. `seq` may be a symbolic dimension."""
        positions = F.range(0, Tensor.from_dim(seq), 1, out_dim=seq, dtype=DType.int64)  # [seq]
        return F.gather(self.weight, positions, axis=0)
