"""The values of a checkpoint's tensors, one tensor at a time, and the refusal of those that are damaged."""

from collections.abc import Iterable, Iterator

import numpy as np

from max_gpt2.checkpoint.arrays import count_nonfinite
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.checkpoint.plan import LoadPlan
from max_gpt2.errors import CheckpointError, listed


def stored_values(
    plan: LoadPlan, names: Iterable[str], *, allow_nonfinite: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the canonical `names` with their values, in the dtype and the layout that they are stored in.

    Raises CheckpointError after the last one, which lists all that hold NaN or infinite values.
    """
    shapes, dtypes = canonical_shapes(plan.config), plan.read_dtypes
    damaged: dict[str, int] = {}
    for name in names:
        if name in plan.zero_filled:
            yield name, np.zeros(shapes[name], EXACT[dtypes[name]])
            continue
        values = plan.sources[name].read()
        if not allow_nonfinite:
            damaged[name] = count_nonfinite(values)
        yield name, values
    refuse_damaged(plan, damaged)


def refuse_damaged(plan: LoadPlan, damaged: dict[str, int]) -> None:
    """Raise CheckpointError when there are tensors, by canonical name, with a number of values that are not finite."""
    problems = [
        f"{plan.sources[name].name} has {damaged[name]} values that are NaN or infinite"
        for name in plan.sources
        if damaged.get(name)
    ]
    if problems:
        remedy = "Download them again, or add --allow-nonfinite to load them as they are."
        raise CheckpointError(listed(f"The weights in {plan.origin.path} are damaged", problems, remedy))
