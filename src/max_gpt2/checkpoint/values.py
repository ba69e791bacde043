"""The values of a checkpoint's tensors, one tensor at a time, and the refusal of those that are damaged."""

from collections.abc import Iterable, Iterator

import numpy as np

from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.checkpoint.plan import LoadPlan
from max_gpt2.errors import CheckpointError, listed

_STRIP = 64  # rows, few enough to stay in the processor's cache while they are turned


def stored_values(
    plan: LoadPlan, names: Iterable[str], *, allow_nonfinite: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the canonical `names` with their values, in the dtype and the layout that they are stored in.

    Raises CheckpointError after the last one, which lists all that hold NaN or infinite values.
    """
    shapes, dtypes = canonical_shapes(plan.config), plan.read_dtypes
    damaged = []
    for name in names:
        if name in plan.zero_filled:
            yield name, np.zeros(shapes[name], EXACT[dtypes[name]])
            continue
        values = plan.sources[name].read()
        if not allow_nonfinite and (damage := damage_of(values)):
            damaged.append(f"{plan.sources[name].name} {damage}")
        yield name, values
    refuse_damaged(plan, damaged)


def damage_of(values: np.ndarray) -> str:
    """Return what is wrong with values that have to be finite, or nothing."""
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum(dtype=np.float32)):  # one pass and no second array; no NaN and no infinity gets by
            return ""
        count = np.count_nonzero(~np.isfinite(values))  # which warns of a signalling NaN in bfloat16
    return f"has {count} values that are NaN or infinite" if count else ""


def refuse_damaged(plan: LoadPlan, damaged: list[str]) -> None:
    """Raise CheckpointError when there are tensors with damage."""
    if damaged:
        remedy = "Download them again, or add --allow-nonfinite to load them as they are."
        raise CheckpointError(listed(f"The weights in {plan.origin.path} are damaged", damaged, remedy))


def transposed(values: np.ndarray) -> np.ndarray:
    """Return a matrix with its axes exchanged, C-contiguous float32; numpy's own copy takes nine times as long."""
    turned = np.empty(values.shape[::-1], np.float32)
    for start in range(0, len(values), _STRIP):
        turned[:, start : start + _STRIP] = values[start : start + _STRIP].T
    return turned
