"""The values of a checkpoint's tensors, one tensor at a time, and the refusal of those that are damaged."""

from collections.abc import Iterable, Iterator

import numpy as np

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
    shapes, dtypes = canonical_shapes(plan.origin.config), plan.read_dtypes
    damaged = []
    for name in names:
        if name in plan.zero_filled:
            yield name, np.zeros(shapes[name], EXACT[dtypes[name]])
            continue
        values = plan.sources[name].read()
        if not allow_nonfinite and not (finite := np.isfinite(values)).all():
            count = np.count_nonzero(~finite)
            damaged.append(f"{plan.sources[name].name} has {count} values that are NaN or infinite")
        yield name, values
    if damaged:
        remedy = "Download them again, or add --allow-nonfinite to load them as they are."
        raise CheckpointError(listed(f"The weights in {plan.origin.path} are damaged", damaged, remedy))
