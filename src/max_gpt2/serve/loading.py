"""The checkpoint that a server's process loads: its folder was prepared, or is one of Hugging Face's."""

import os
from pathlib import Path

from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint

#: Set to load weights that are NaN or infinite; `max_gpt2.serve.command` sets it.
ALLOW_NONFINITE = "MAX_GPT2_ALLOW_NONFINITE"


def served_checkpoint(folder: str) -> Checkpoint:
    """Load the checkpoint of a folder, its weights mapped; raises MaxGPT2Error as `load_checkpoint` does."""
    return load_checkpoint(Path(folder), LoadOptions(allow_nonfinite=bool(os.environ.get(ALLOW_NONFINITE))))
