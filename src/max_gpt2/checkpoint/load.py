"""Load a checkpoint: read, upcast, transpose, check."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.formats import read_source
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes
from max_gpt2.checkpoint.locate import locate
from max_gpt2.checkpoint.options import DEFAULT_OPTIONS, LoadOptions
from max_gpt2.checkpoint.plan import LoadPlan, make_plan
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError, TokenizerError, listed
from max_gpt2.tokenizer import GPT2Tokenizer

_ROWS = 64


def _strips(values: np.ndarray) -> Iterator[slice]:
    step = _ROWS if values.ndim > 1 else len(values)
    return (slice(start, start + step) for start in range(0, len(values), step))


def as_float32(values: np.ndarray, *, turn: bool) -> tuple[np.ndarray, bool]:
    """Return the values in float32, with a matrix's axes exchanged if `turn`, and whether all of them are finite.

    [rows, columns] of any float -> [rows, columns] or [columns, rows], C-contiguous. What needs no change is not
    copied. Numpy's own copy of a large transposed matrix takes nine times as long as this one.
    """
    kept = values.dtype == np.float32 and values.flags.c_contiguous and not turn
    result = values if kept else np.empty(values.shape[::-1] if turn else values.shape, np.float32)
    finite = True
    with np.errstate(all="ignore"):  # a NaN that is made float32 may change its bits, and a sum may be infinite
        for part in _strips(values):
            strip = values[part].copy().astype(np.float32, copy=False)  # mapped values may be unaligned, and so slow
            finite = finite and bool(np.isfinite(strip.sum()) or np.isfinite(strip).all())
            if turn:
                result[:, part] = strip.T
            elif not kept:
                result[part] = strip
    return result, finite


def count_nonfinite(values: np.ndarray) -> int:
    """Return how many values are NaN or infinite."""
    with np.errstate(invalid="ignore"):  # a signalling NaN in bfloat16
        return sum(int(np.count_nonzero(~np.isfinite(values[part]))) for part in _strips(values))


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


def inspect_checkpoint(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> tuple[Path, GPT2Config, LoadPlan]:
    """Return folder, config and plan of "demo", a hub id, a folder or a file of weights, without loading the weights.

    Raises ModelNotFoundError, ConfigError or CheckpointError, and MissingExtraError for a pickle without PyTorch.
    """
    origin = read_source(locate(model, options.allow_pickle), options.allow_pickle)
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


def load_checkpoint(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> Checkpoint:
    """Load "demo", a hub id, a folder or a file of weights exactly; raises MaxGPT2Error that names every problem."""
    folder, config, plan = inspect_checkpoint(model, options)
    tokenizer = read_tokenizer(plan, options.tokenizer)
    weights = load_weights(plan, allow_nonfinite=options.allow_nonfinite)
    return Checkpoint(folder, config, weights, tokenizer, plan)


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
