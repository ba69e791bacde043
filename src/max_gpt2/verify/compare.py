"""How far two arrays of logits are apart, and when that is equal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Two float32 implementations that add up in another order differ by a few units in the last place: where logits are
#: about 10 that is 1e-5. Logits that are large are held to the same number of digits instead.
ABSOLUTE = 1e-4
RELATIVE = 1e-5


@dataclass(frozen=True)
class Comparison:
    """The difference of two arrays of logits, over all positions and tokens.

    `max_rel_diff` is the largest difference as a part of the reference's largest logit (in absolute value), and
    `argmax_agreement` the share of positions, 0 to 1, at which both find the same token likeliest.
    """

    positions: int
    max_abs_diff: float
    max_rel_diff: float
    largest_logit: float
    argmax_agreement: float

    @property
    def equal(self) -> bool:
        """Whether the difference is rounding."""
        return self.max_abs_diff < ABSOLUTE or self.max_rel_diff < RELATIVE

    @property
    def criterion(self) -> str:
        """The bound that the difference keeps, or the two that it breaks."""
        if self.max_abs_diff < ABSOLUTE:
            return f"max_abs_diff < {ABSOLUTE:.0e}"
        if self.max_rel_diff < RELATIVE:
            return f"max_abs_diff < {RELATIVE:.0e} of the largest logit ({self.largest_logit:.1f})"
        return f"not < {ABSOLUTE:.0e}, nor < {RELATIVE:.0e} of the largest logit ({self.largest_logit:.1f})"


def compare(ours: np.ndarray, reference: np.ndarray) -> Comparison:
    """Compare logits, both [..., vocab]; anything that is not finite on one side counts as infinitely far apart."""
    with np.errstate(invalid="ignore"):  # inf - inf is nan, which is dealt with below
        difference = np.abs(ours - reference)
    largest = float(np.abs(reference).max())
    apart = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return Comparison(
        positions=int(np.prod(reference.shape[:-1])),
        max_abs_diff=apart,
        max_rel_diff=apart / largest if largest > 0 else apart,
        largest_logit=largest,
        argmax_agreement=float((ours.argmax(axis=-1) == reference.argmax(axis=-1)).mean()),
    )


def worst(comparisons: Sequence[Comparison]) -> Comparison:
    """Combine the comparisons of several prompts into one over all of their positions."""
    positions = sum(one.positions for one in comparisons)
    agreeing = sum(one.argmax_agreement * one.positions for one in comparisons)
    return Comparison(
        positions=positions,
        max_abs_diff=max(one.max_abs_diff for one in comparisons),
        max_rel_diff=max(one.max_rel_diff for one in comparisons),
        largest_logit=max(one.largest_logit for one in comparisons),
        argmax_agreement=agreeing / positions,
    )


def criterion(comparisons: Sequence[Comparison]) -> str:
    """Return the bound that the comparison which came closest to failing keeps, or the one it breaks."""
    return max(comparisons, key=lambda one: (not one.equal, one.max_abs_diff)).criterion
