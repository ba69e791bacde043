"""Options for loading a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from max_gpt2.config import Kernels


@dataclass(frozen=True)
class LoadOptions:
    """Options for reading a checkpoint and compiling its model.

    Attributes:
        tokenizer: A folder with the tokenizer to use instead of the checkpoint's own.
        allow_pickle: Read formats based on Python's pickle; only plain tensors are read.
        allow_nonfinite: Load weights that contain NaN or infinite values instead of raising CheckpointError.
        kernels: "mojo" computes with the kernels of this package, "builtin" with MAX's own operations.

    """

    tokenizer: str | Path | None = None
    allow_pickle: bool = False
    allow_nonfinite: bool = False
    kernels: Kernels = "mojo"


#: The default of every function that loads a checkpoint.
DEFAULT_OPTIONS = LoadOptions()
