"""Measure the difference of two arrays, and decide whether it is within tolerance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Two float32 implementations that sum in different orders differ by a few units in the last place, about 1e-5 for
#: values near 10. Arrays with larger values are compared relative to their largest value instead.
ABSOLUTE = 1e-4
RELATIVE = 1e-5


@dataclass(frozen=True)
class Difference:
    """The largest difference of two arrays, absolute and relative to the reference's largest absolute value."""

    max_abs_diff: float
    max_rel_diff: float
    largest: float

    @property
    def equal(self) -> bool:
        """True if the difference is within tolerance."""
        return self.max_abs_diff < ABSOLUTE or self.max_rel_diff < RELATIVE

    @property
    def criterion(self) -> str:
        """The tolerance that holds, or both when neither holds."""
        if self.max_abs_diff < ABSOLUTE:
            return f"max_abs_diff < {ABSOLUTE:.0e}"
        if self.max_rel_diff < RELATIVE:
            return f"max_abs_diff < {RELATIVE:.0e} of the largest value ({self.largest:.1f})"
        return f"not < {ABSOLUTE:.0e}, nor < {RELATIVE:.0e} of the largest value ({self.largest:.1f})"


@dataclass(frozen=True)
class LogitsDifference(Difference):
    """The difference of two arrays of logits, over all positions and tokens.

    `argmax_agreement` is the fraction of positions (0 to 1) at which both have the same argmax.
    """

    positions: int
    argmax_agreement: float


def compare(ours: np.ndarray, reference: np.ndarray) -> Difference:
    """Compare two arrays of the same shape; a NaN or infinite value in either makes the difference infinite."""
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, handled below
        difference = np.abs(ours - reference)
    largest = float(np.abs(reference).max())
    max_abs = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return Difference(max_abs, max_abs / largest if largest > 0 else max_abs, largest)


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
    """Return the largest failing difference, or the largest one when none fails."""
    return max(differences, key=lambda one: (not one.equal, one.max_abs_diff))


def agreement(differences: Sequence[LogitsDifference]) -> float:
    """Return `argmax_agreement` over the positions of all prompts."""
    return sum(one.argmax_agreement * one.positions for one in differences) / sum(one.positions for one in differences)
