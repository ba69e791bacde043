"""Load a checkpoint: read, upcast, transpose, check."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.arrays import as_float32, count_nonfinite
from max_gpt2.checkpoint.formats import read_source
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes
from max_gpt2.checkpoint.locate import locate
from max_gpt2.checkpoint.plan import LoadPlan, make_plan
from max_gpt2.checkpoint.values import refuse_damaged
from max_gpt2.config import GPT2Config
from max_gpt2.errors import TokenizerError
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    `state_dict` is canonical: names and shapes as in `max_gpt2.checkpoint.layout`, float32, C-contiguous, always with
    `lm_head.weight` (the very array of `wte` when the head is tied). What a file has in this form is mapped from it,
    not copied: the file must not be written to as long as the arrays are used.
    """

    folder: Path
    config: GPT2Config
    state_dict: dict[str, np.ndarray]
    tokenizer: GPT2Tokenizer
    plan: LoadPlan


def inspect_checkpoint(model: str | Path, *, allow_pickle: bool = False) -> tuple[Path, GPT2Config, LoadPlan]:
    """Return folder, config and plan of "demo", a hub id, a folder or a file of weights, without loading the weights.

    Raises ModelNotFoundError, ConfigError or CheckpointError, and MissingExtraError for a pickle without PyTorch.
    """
    origin = read_source(locate(model, allow_pickle), allow_pickle)
    return origin.folder, origin.config, make_plan(origin)


def read_tokenizer(plan: LoadPlan, folder: str | Path | None = None) -> GPT2Tokenizer:
    """Return the tokenizer of `folder`, or else the one that the weights' file holds, or else the one beside it.

    Raises TokenizerError when there is none, or when it does not fit the model.
    """
    origin = plan.origin
    if folder is not None:
        given = Path(os.path.expanduser(folder))  # noqa: PTH111  (Path's own raises for ~nobody)
        if not given.is_dir():
            raise TokenizerError(f'There is no folder "{folder}" for --tokenizer. Give one that exists.')
        return GPT2Tokenizer.from_folder(given, origin.config.vocab_size)
    if origin.tokenizer:
        return origin.tokenizer(origin.config.vocab_size)
    return GPT2Tokenizer.from_folder(origin.folder, origin.config.vocab_size)


def load_checkpoint(
    model: str | Path,
    *,
    tokenizer: str | Path | None = None,
    allow_pickle: bool = False,
    allow_nonfinite: bool = False,
) -> Checkpoint:
    """Load "demo", a hub id, a folder or a file exactly, or refuse it: MaxGPT2Error that names every problem.

    `tokenizer` is a folder for weights that come without one; `allow_pickle` permits formats that can run
    code when they are read carelessly, `allow_nonfinite` weights that are NaN or infinite.
    """
    folder, config, plan = inspect_checkpoint(model, allow_pickle=allow_pickle)
    text_to_ids = read_tokenizer(plan, tokenizer)
    return Checkpoint(folder, config, load_weights(plan, allow_nonfinite=allow_nonfinite), text_to_ids, plan)


def load_weights(plan: LoadPlan, *, allow_nonfinite: bool = False) -> dict[str, np.ndarray]:
    """Read the weights as `Checkpoint.state_dict` has them; raises CheckpointError that names what is not finite."""
    state_dict: dict[str, np.ndarray] = {}
    damaged: dict[str, int] = {}

    def load(name: str) -> None:
        values = plan.sources[name].read()
        state_dict[name], finite = as_float32(values, turn=plan.is_transposed(name))
        if not (finite or allow_nonfinite):
            damaged[name] = count_nonfinite(values)

    # The largest first, so that no thread is left alone with a large one; numpy lets the others run while it copies.
    names = sorted(plan.sources, key=lambda name: prod(plan.sources[name].shape), reverse=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for _ in threads.map(load, names):
            pass  # what went wrong in a thread is raised here
    refuse_damaged(plan, damaged)
    shapes = canonical_shapes(plan.config)
    state_dict |= {name: np.zeros(shapes[name], np.float32) for name in plan.zero_filled}
    state_dict.setdefault(LM_HEAD, state_dict[WTE])
    return state_dict
