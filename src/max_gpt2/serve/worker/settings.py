"""Settings of the worker: the size of its KV cache, and the checkpoint that it loads."""

import os
from pathlib import Path

from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint
from max_gpt2.config import GPT2Config

#: Set to load weights that are NaN or infinite; `max_gpt2.serve.launch` sets it.
ALLOW_NONFINITE = "MAX_GPT2_ALLOW_NONFINITE"


def served_checkpoint(folder: str) -> Checkpoint:
    """Load the checkpoint of a folder, its weights mapped; raises MaxGPT2Error as `load_checkpoint` does."""
    return load_checkpoint(Path(folder), LoadOptions(allow_nonfinite=bool(os.environ.get(ALLOW_NONFINITE))))


#: How many tokens a page of the cache holds: MAX wants a multiple of 128, and smaller pages share more prefixes.
PAGE_SIZE = 128
#: The bytes of the cache, if somebody has decided; `max_gpt2.serve.launch` sets it.
CACHE_BYTES_VARIABLE = "MAX_GPT2_CACHE_BYTES"


def page_bytes(config: GPT2Config) -> int:
    """Return what the keys and values of a page take."""
    return 2 * 4 * config.n_layer * PAGE_SIZE * config.n_embd


def min_cache_bytes(config: GPT2Config) -> int:
    """Return what one text that fills the context takes, and the page that MAX keeps for nothing."""
    return (_pages(config) + 1) * page_bytes(config)


def default_cache_bytes(config: GPT2Config, batch: int) -> int:
    """Return room for half a context for each of `batch` texts, and for a whole one at least.

    When texts grow longer, MAX's scheduler puts the latest back into the queue until there is room.
    """
    return max(min_cache_bytes(config), (-(-batch * _pages(config) // 2) + 1) * page_bytes(config))


def configured_cache_bytes(config: GPT2Config, batch: int) -> int:
    """Return the bytes that the environment asks for, or else the usual ones."""
    text = os.environ.get(CACHE_BYTES_VARIABLE, "")
    return int(text) if text.isdigit() else default_cache_bytes(config, batch)


def _pages(config: GPT2Config) -> int:
    return -(-config.n_positions // PAGE_SIZE)
