"""Load a checkpoint: read, convert, transpose and check its tensors."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import NoReturn

import numpy as np

from max_gpt2.checkpoint.adapter import merge_adapters
from max_gpt2.checkpoint.convert_types import count_nonfinite, read_weight
from max_gpt2.checkpoint.formats import read_source
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes, is_conv1d
from max_gpt2.checkpoint.locate import locate
from max_gpt2.checkpoint.options import DEFAULT_OPTIONS, LoadOptions
from max_gpt2.checkpoint.original_tokenizer import named_tokenizer, tokenizer_for
from max_gpt2.checkpoint.plan import LoadPlan, make_plan
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError, listed
from max_gpt2.system.machine import memory
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.weights.quantise import float32_weights
from max_gpt2.weights.types import Weight, Weights, WeightsOption


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

    `weights` has the names and shapes of `max_gpt2.checkpoint.layout`, and always contains `lm_head.weight` (the same
    object as `wte` when the head is tied). Tensors stored in this form are memory-mapped: do not modify the file while
    they are in use.
    """

    folder: Path
    config: GPT2Config
    weights: Weights
    tokenizer: GPT2Tokenizer
    plan: LoadPlan

    @cached_property
    def state_dict(self) -> dict[str, np.ndarray]:
        """The weights as float32 arrays, C-contiguous."""
        return float32_weights(self.weights)


def inspect_checkpoint(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> tuple[Path, GPT2Config, LoadPlan]:
    """Return the folder, config and plan of "demo", a hub id, a folder or a file, without loading the weights.

    Raises ModelNotFoundError, ConfigError or CheckpointError, MissingExtraError for a pickle without PyTorch, and
    RequestError for a type of weights that cannot be made.
    """
    origin = read_source(locate(model, options.allow_pickle), options.allow_pickle)
    plan = replace(make_plan(origin), weights=options.weights)
    if options.adapters:
        plan = merge_adapters(plan, options.adapters, options.allow_pickle)
    plan.types  # noqa: B018  (raises if the weights cannot have these types)
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


def load_weights(
    plan: LoadPlan, weights: WeightsOption | None = None, *, allow_nonfinite: bool = False
) -> dict[str, Weight]:
    """Read the weights by canonical name in the types of `weights`, or else in those that the plan has.

    Biases, layer norms and position embeddings are float32 arrays; `lm_head.weight` is the same object as `wte` if the
    head is tied. Raises RequestError for a type that cannot be made, and CheckpointError that names the tensors with
    values that are NaN, infinite, or too large for their type, and if the weights do not fit into the memory.
    """
    plan = plan if weights is None else replace(plan, weights=weights)
    loaded: dict[str, Weight] = {}
    nonfinite: dict[str, int] = {}
    types = plan.types
    _check_memory(plan)

    def load(name: str) -> None:
        stored = plan.sources[name]
        conv1d = is_conv1d(name)
        loaded[name], bad = read_weight(stored, types[name], transpose=plan.is_transposed(name), conv1d=conv1d)
        if bad and not allow_nonfinite:
            nonfinite[name] = bad

    # Largest first, so that threads finish together; numpy releases the GIL while it copies.
    names = sorted(plan.sources, key=lambda name: prod(plan.sources[name].shape), reverse=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for _ in threads.map(load, names):
            pass  # re-raises exceptions from the threads
    if nonfinite:
        check_finite(plan, {name: count_nonfinite(plan.sources[name].read()) for name in nonfinite})
        _raise_overflow(plan, nonfinite)
    shapes = canonical_shapes(plan.config)
    loaded |= {name: np.zeros(shapes[name], np.float32) for name in plan.zero_filled}
    loaded.setdefault(LM_HEAD, loaded[WTE])
    return loaded


def _check_memory(plan: LoadPlan) -> None:
    needed, (_, available) = plan.copied_bytes, memory()
    if needed > available:
        raise CheckpointError(
            f"The weights in {plan.origin.path} need {needed / 1e9:.1f} GB of memory with the type {plan.weights}, but "
            f"{available / 1e9:.1f} GB are available. Use a narrower type, such as q8_0, or close other programs."
        )


def loading_label(plan: LoadPlan, label: str = "Loading the weights") -> str:
    """Return the label of a progress display, with the changes of types if there are any."""
    return f"{label} ({', '.join(plan.type_changes)})" if plan.type_changes else label


def _raise_overflow(plan: LoadPlan, overflowing: Iterable[str]) -> NoReturn:
    names = [f"{plan.sources[name].name} has values that are too large for {plan.types[name]}" for name in overflowing]
    raise CheckpointError(listed(f"The weights in {plan.origin.path} overflow", names, "Use bfloat16 or float32."))
