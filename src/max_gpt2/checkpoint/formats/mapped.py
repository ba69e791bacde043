"""Values mapped from a file: they take no memory until they are looked at, and none after."""

from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.errors import CheckpointError


def map_values(file: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values that start at byte `offset`; raises CheckpointError when the file has gone.

    Who writes to them changes his own copy, never the file.
    """
    try:
        return np.memmap(file, dtype, "c", offset, shape)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read any more ({error}). {AGAIN}") from error
