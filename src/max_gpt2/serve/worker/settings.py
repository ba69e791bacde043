"""Settings of the worker: the size of its KV cache and the checkpoint that it loads."""

import os
from pathlib import Path
from typing import cast

from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint
from max_gpt2.config import GPT2Config
from max_gpt2.weights.types import DEFAULT_WEIGHTS, WeightsOption

#: The environment variable that allows NaN and infinite weights; `max_gpt2.serve.launch` sets it.
ALLOW_NONFINITE = "MAX_GPT2_ALLOW_NONFINITE"
#: The environment variable for the type of the weights; `max_gpt2.serve.launch` sets it.
WEIGHTS_VARIABLE = "MAX_GPT2_WEIGHTS"


def served_checkpoint(folder: str) -> Checkpoint:
    """Load the checkpoint of a prepared folder; raises MaxGPT2Error as `load_checkpoint` does."""
    nonfinite, weights = bool(os.environ.get(ALLOW_NONFINITE)), os.environ.get(WEIGHTS_VARIABLE, DEFAULT_WEIGHTS)
    # The tokenizer is that of the folder, also beside a GGUF file with one.
    options = LoadOptions(folder, allow_nonfinite=nonfinite, weights=cast(WeightsOption, weights))
    return load_checkpoint(Path(folder), options)


#: Tokens per page of the KV cache. MAX requires a multiple of 128; smaller pages share more prefixes.
PAGE_SIZE = 128
#: The environment variable for the size of the KV cache in bytes; users or `max_gpt2.serve.launch` set it.
CACHE_BYTES_VARIABLE = "MAX_GPT2_CACHE_BYTES"


def page_bytes(config: GPT2Config) -> int:
    """Return the size of a page: `[2, n_layer, PAGE_SIZE, n_embd]` keys and values in float32."""
    return 2 * 4 * config.n_layer * PAGE_SIZE * config.n_embd


def min_cache_bytes(config: GPT2Config) -> int:
    """Return the size for one sequence that fills the context, and the page that MAX reserves."""
    return (_pages(config) + 1) * page_bytes(config)


def default_cache_bytes(config: GPT2Config, batch: int) -> int:
    """Return the size for half a context per sequence of the batch, at least for one whole context.

    When no page is free, MAX's scheduler preempts the latest sequence and resumes it later.
    """
    return max(min_cache_bytes(config), (-(-batch * _pages(config) // 2) + 1) * page_bytes(config))


def configured_cache_bytes(config: GPT2Config, batch: int) -> int:
    """Return the size set in the environment, or else the default."""
    text = os.environ.get(CACHE_BYTES_VARIABLE, "")
    return int(text) if text.isdigit() else default_cache_bytes(config, batch)


def _pages(config: GPT2Config) -> int:
    return -(-config.n_positions // PAGE_SIZE)
