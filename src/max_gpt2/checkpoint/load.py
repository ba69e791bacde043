"""Load a checkpoint: read, upcast, transpose, check."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.files import stored_tensors
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, is_conv1d
from max_gpt2.checkpoint.locate import locate
from max_gpt2.checkpoint.plan import LoadPlan, make_plan
from max_gpt2.config import GPT2Config, read_config
from max_gpt2.errors import CheckpointError, listed
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    `state_dict` is canonical: names as in `max_gpt2.checkpoint.layout`, float32, C-contiguous, linear weights
    `[out, in]`, always with `lm_head.weight` (the very array of `wte` when the head is tied).
    """

    folder: Path
    config: GPT2Config
    state_dict: dict[str, np.ndarray]
    tokenizer: GPT2Tokenizer
    plan: LoadPlan


def inspect_checkpoint(model: str | Path) -> tuple[Path, GPT2Config, LoadPlan]:
    """Return folder, config and plan of "demo", a hub id or a folder, without loading the weights.

    Raises ModelNotFoundError, ConfigError or CheckpointError.
    """
    folder = locate(model)
    config = read_config(folder)
    return folder, config, make_plan(stored_tensors(folder), config, folder)


def load_checkpoint(model: str | Path) -> Checkpoint:
    """Load "demo", a hub id or a folder exactly, or refuse it: MaxGPT2Error that names every problem."""
    folder, config, plan = inspect_checkpoint(model)
    tokenizer = GPT2Tokenizer.from_folder(folder, config.vocab_size)
    state_dict = {}
    not_finite = []
    for name, stored in plan.sources.items():
        values = stored.read().astype(np.float32, copy=False)
        state_dict[name] = np.ascontiguousarray(values.T if is_conv1d(name) else values)
        if not np.isfinite(values).all():
            not_finite.append(
                f"{stored.name} has {np.count_nonzero(~np.isfinite(values))} values that are NaN or infinite"
            )
    if not_finite:
        raise CheckpointError(listed(f"The weights in {folder} are damaged", not_finite, "Download them again."))
    state_dict.setdefault(LM_HEAD, state_dict[WTE])
    return Checkpoint(folder, config, state_dict, tokenizer, plan)
