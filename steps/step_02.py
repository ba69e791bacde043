"""Step 02: the causal mask, which prevents a token from attending to later ones."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.tensor import Tensor
from max.graph import DimLike


def causal_mask(seq: DimLike) -> Tensor:
    """Return the mask that attention adds to its scores, [seq, seq]: 0 where a query may attend to a key, else -inf.

    Row i belongs to the query at position i, column j to the key at position j; i may attend to j if j <= i. The
    softmax that follows turns -inf into a weight of exactly 0. `seq` may be a symbolic dimension.
    """
    # TODO: replace the line below.
    raise NotImplementedError("causal_mask")
