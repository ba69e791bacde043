"""What a learner's function returned, held to what it should have."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tutorial.problem import WrongAnswerError


def present(value: Any, name: str) -> Any:
    """Return the value unless it is None; raises WrongAnswerError."""
    if value is None:
        raise WrongAnswerError(
            f"{name} returned nothing. An answer that is printed is not returned: end with `return ...`."
        )
    return value


def several(value: Any, names: Sequence[str]) -> Sequence[Any]:
    """Return a tuple of as many as there are names; raises WrongAnswerError."""
    present(value, " and ".join(names))
    if not isinstance(value, tuple | list) or len(value) != len(names):
        got = f"{len(value)} of them" if isinstance(value, tuple | list) else f"one {type(value).__name__}"
        raise WrongAnswerError(f"{len(names)} results are wanted, {', '.join(names)}; what came back is {got}.")
    return value


def one_array(value: Any, name: str) -> np.ndarray:
    """Return an array as it is; raises WrongAnswerError for anything else."""
    present(value, name)
    if not isinstance(value, np.ndarray):
        raise WrongAnswerError(f"{name} returned a {type(value).__name__}, where a numpy array is wanted.")
    return value
