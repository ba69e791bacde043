"""How far two arrays of numbers are apart, and when that is equal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Two float32 implementations that add up in another order differ by a few units in the last place: where numbers are
#: about 10 that is 1e-5. Arrays with larger numbers are held to the same number of digits instead.
ABSOLUTE = 1e-4
RELATIVE = 1e-5


@dataclass(frozen=True)
class Difference:
    """The difference of two arrays: the largest one, also as a part of the reference's largest absolute value."""

    max_abs_diff: float
    max_rel_diff: float
    largest: float

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
            return f"max_abs_diff < {RELATIVE:.0e} of the largest value ({self.largest:.1f})"
        return f"not < {ABSOLUTE:.0e}, nor < {RELATIVE:.0e} of the largest value ({self.largest:.1f})"


@dataclass(frozen=True)
class LogitsDifference(Difference):
    """The difference of two arrays of logits, over all positions and tokens.

    `argmax_agreement` is the share of positions, 0 to 1, at which both find the same token likeliest.
    """

    positions: int
    argmax_agreement: float


def compare(ours: np.ndarray, reference: np.ndarray) -> Difference:
    """Compare arrays of one shape; anything that is not finite on one side counts as infinitely far apart."""
    with np.errstate(invalid="ignore"):  # inf - inf is nan, which is dealt with below
        difference = np.abs(ours - reference)
    largest = float(np.abs(reference).max())
    apart = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return Difference(apart, apart / largest if largest > 0 else apart, largest)


def compare_logits(ours: np.ndarray, reference: np.ndarray) -> LogitsDifference:
    """Compare logits, both [..., vocab], as `compare` does."""
    difference = compare(ours, reference)
    return LogitsDifference(
        difference.max_abs_diff,
        difference.max_rel_diff,
        difference.largest,
        positions=int(np.prod(reference.shape[:-1])),
        argmax_agreement=float((ours.argmax(axis=-1) == reference.argmax(axis=-1)).mean()),
    )


def worst(differences: Sequence[Difference]) -> Difference:
    """Return the difference that came closest to failing, or failed by the most."""
    return max(differences, key=lambda one: (not one.equal, one.max_abs_diff))


def agreement(differences: Sequence[LogitsDifference]) -> float:
    """Return `argmax_agreement` over the positions of all."""
    return sum(one.argmax_agreement * one.positions for one in differences) / sum(one.positions for one in differences)
