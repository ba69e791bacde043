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
    nothing_seen = F.broadcast_to(Tensor(float("-inf"), dtype=DType.float32), [seq, seq])
    # The band consists of the diagonal and everything below it, which band_part sets to 0.
    return F.band_part(nothing_seen, num_lower=None, num_upper=0, exclude=True)  # [seq, seq]
