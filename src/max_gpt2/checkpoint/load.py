"""Load a checkpoint: read, upcast, transpose and check its tensors."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.adapter import merge_adapters
from max_gpt2.checkpoint.formats import read_source
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes
from max_gpt2.checkpoint.locate import locate
from max_gpt2.checkpoint.options import DEFAULT_OPTIONS, LoadOptions
from max_gpt2.checkpoint.original_tokenizer import named_tokenizer, tokenizer_for
from max_gpt2.checkpoint.plan import LoadPlan, make_plan
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError, listed
from max_gpt2.tokenizer import GPT2Tokenizer

_ROWS = 64


def _strips(values: np.ndarray) -> Iterator[slice]:
    step = _ROWS if values.ndim > 1 else len(values)
    return (slice(start, start + step) for start in range(0, len(values), step))


def as_float32(values: np.ndarray, *, transpose: bool) -> tuple[np.ndarray, bool]:
    """Return the values in float32, transposed if `transpose`, and whether all of them are finite.

    [rows, columns] of any float -> [rows, columns] or [columns, rows], C-contiguous. An array that needs no change is
    not copied. Strips of rows make the transposed copy of a large matrix nine times as fast as numpy's.
    """
    unchanged = values.dtype == np.float32 and values.flags.c_contiguous and not transpose
    result = values if unchanged else np.empty(values.shape[::-1] if transpose else values.shape, np.float32)
    finite = True
    with np.errstate(all="ignore"):  # converting a signalling NaN and summing to infinity would warn
        for part in _strips(values):
            strip = values[part].copy().astype(np.float32, copy=False)  # mapped values may be unaligned, which is slow
            finite = finite and bool(np.isfinite(strip.sum()) or np.isfinite(strip).all())
            if transpose:
                result[:, part] = strip.T
            elif not unchanged:
                result[part] = strip
    return result, finite


def count_nonfinite(values: np.ndarray) -> int:
    """Return the number of values that are NaN or infinite."""
    with np.errstate(invalid="ignore"):  # a signalling NaN in bfloat16
        return sum(int(np.count_nonzero(~np.isfinite(values[part]))) for part in _strips(values))


def stored_values(
    plan: LoadPlan, names: Iterable[str], *, allow_nonfinite: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors of the canonical `names`, in their stored dtype and layout.

    Raises CheckpointError after the last one, which lists every tensor with NaN or infinite values.
    """
    shapes, dtypes = canonical_shapes(plan.config), plan.read_dtypes
    nonfinite: dict[str, int] = {}
    for name in names:
        if name in plan.zero_filled:
            yield name, np.zeros(shapes[name], EXACT[dtypes[name]])
            continue
        values = plan.sources[name].read()
        if not allow_nonfinite:
            nonfinite[name] = count_nonfinite(values)
        yield name, values
    check_finite(plan, nonfinite)


def check_finite(plan: LoadPlan, nonfinite: dict[str, int]) -> None:
    """Raise CheckpointError if any tensor, by canonical name, has a nonzero count of nonfinite values."""
    problems = [
        f"{plan.sources[name].name} has {nonfinite[name]} values that are NaN or infinite"
        for name in plan.sources
        if nonfinite.get(name)
    ]
    if problems:
        remedy = "Download them again, or add --allow-nonfinite to load them as they are."
        raise CheckpointError(listed(f"The weights in {plan.origin.path} are damaged", problems, remedy))


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    `state_dict` has the names and shapes of `max_gpt2.checkpoint.layout`, float32 and C-contiguous, and always contains
    `lm_head.weight` (the same array as `wte` when the head is tied). Tensors stored in this form are memory-mapped: do
    not modify the file while the arrays are in use.
    """

    folder: Path
    config: GPT2Config
    state_dict: dict[str, np.ndarray]
    tokenizer: GPT2Tokenizer
    plan: LoadPlan


def inspect_checkpoint(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> tuple[Path, GPT2Config, LoadPlan]:
    """Return the folder, config and plan of "demo", a hub id, a folder or a file, without loading the weights.

    Raises ModelNotFoundError, ConfigError or CheckpointError, and MissingExtraError for a pickle without PyTorch.
    """
    origin = read_source(locate(model, options.allow_pickle), options.allow_pickle)
    plan = make_plan(origin)
    if options.adapters:
        plan = merge_adapters(plan, options.adapters, options.allow_pickle)
    return origin.folder, origin.config, plan


def read_tokenizer(plan: LoadPlan, folder: str | Path | None = None) -> GPT2Tokenizer:
    """Load the tokenizer of `folder` or a hub id, else from the weights' file, else from the checkpoint's folder.

    Weights without a tokenizer that have the vocabulary size of GPT-2 get GPT-2's, from the cache or the hub.

    Raises TokenizerError when there is none, or when it does not match the model.
    """
    config = plan.origin.config
    tokenizer = _find_tokenizer(plan, folder)
    if config.bos_token_id is not None and config.bos_token_id < config.vocab_size:
        tokenizer.bos_token_id = config.bos_token_id
    return tokenizer


def _find_tokenizer(plan: LoadPlan, folder: str | Path | None) -> GPT2Tokenizer:
    origin = plan.origin
    if folder is not None:
        given = Path(os.path.expanduser(folder))  # noqa: PTH111  (Path's own raises for ~nobody)
        if not given.is_dir():
            given = named_tokenizer(str(folder))
        return GPT2Tokenizer.from_folder(given, origin.config.vocab_size)
    if origin.tokenizer:
        return origin.tokenizer(origin.config.vocab_size)
    size = origin.config.vocab_size
    return GPT2Tokenizer.from_folder(tokenizer_for(origin.folder, size), size)


def load_checkpoint(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> Checkpoint:
    """Load "demo", a hub id, a folder or a file of weights exactly; raises MaxGPT2Error that names every problem."""
    folder, config, plan = inspect_checkpoint(model, options)
    tokenizer = read_tokenizer(plan, options.tokenizer)
    weights = load_weights(plan, allow_nonfinite=options.allow_nonfinite)
    return Checkpoint(folder, config, weights, tokenizer, plan)


def load_weights(plan: LoadPlan, *, allow_nonfinite: bool = False) -> dict[str, np.ndarray]:
    """Read the weights into a canonical state dict; raises CheckpointError that names tensors with nonfinite values."""
    state_dict: dict[str, np.ndarray] = {}
    nonfinite: dict[str, int] = {}

    def load(name: str) -> None:
        values = plan.sources[name].read()
        state_dict[name], finite = as_float32(values, transpose=plan.is_transposed(name))
        if not (finite or allow_nonfinite):
            nonfinite[name] = count_nonfinite(values)

    # Largest first, so that threads finish together; numpy releases the GIL while it copies.
    names = sorted(plan.sources, key=lambda name: prod(plan.sources[name].shape), reverse=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for _ in threads.map(load, names):
            pass  # re-raises exceptions from the threads
    check_finite(plan, nonfinite)
    shapes = canonical_shapes(plan.config)
    state_dict |= {name: np.zeros(shapes[name], np.float32) for name in plan.zero_filled}
    state_dict.setdefault(LM_HEAD, state_dict[WTE])
    return state_dict
