"""Step 02: the causal mask, which keeps a token from looking at the ones after it."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.tensor import Tensor
from max.graph import DimLike


def causal_mask(seq: DimLike) -> Tensor:
    """Return what attention adds to its scores: 0 where a query may look at a key, -inf where it may not.

    The mask is [seq, seq]. Row i belongs to the query at position i, column j to the key at position j; i may look at
    j when j <= i. The softmax that follows turns -inf into a weight of exactly 0. `seq` may be a symbolic dimension.
    """
    # TODO: replace the line below; `make hint STEP=2` helps.
    raise NotImplementedError("causal_mask")
