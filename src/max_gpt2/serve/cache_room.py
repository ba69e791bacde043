"""How much memory a server's cache gets."""

import os

from max_gpt2.config import GPT2Config

#: How many tokens a page of the cache holds: MAX wants a multiple of 128, and smaller pages share more prefixes.
PAGE = 128
#: The bytes of the cache, if somebody has decided; `max_gpt2.serve.command` sets it.
VARIABLE = "MAX_GPT2_CACHE_BYTES"


def page_bytes(config: GPT2Config) -> int:
    """Return what the keys and values of a page take."""
    return 2 * 4 * config.n_layer * PAGE * config.n_embd


def least_bytes(config: GPT2Config) -> int:
    """Return what one text that fills the context takes, and the page that MAX keeps for nothing."""
    return (_pages(config) + 1) * page_bytes(config)


def usual_bytes(config: GPT2Config, batch: int) -> int:
    """Return room for half a context for each of `batch` texts, and for a whole one at least.

    When texts grow longer, MAX's scheduler puts the latest back into the queue until there is room.
    """
    return max(least_bytes(config), (-(-batch * _pages(config) // 2) + 1) * page_bytes(config))


def decided_bytes(config: GPT2Config, batch: int) -> int:
    """Return the bytes that the environment asks for, or else the usual ones."""
    text = os.environ.get(VARIABLE, "")
    return int(text) if text.isdigit() else usual_bytes(config, batch)


def _pages(config: GPT2Config) -> int:
    return -(-config.n_positions // PAGE)
