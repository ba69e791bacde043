"""Memory bandwidth, which bounds decoding: every token reads all weights."""

import statistics
import time
from math import prod

from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.config import GPT2Config
from max_gpt2.weights import LM_HEAD


def bandwidth(runs: int = 9) -> float:
    """Measure the memory bandwidth in bytes/s: the median of summing 1 GiB of float32 with two PyTorch threads."""
    import torch

    torch.set_num_threads(2)
    numbers = torch.ones(2**28)
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - started)
    return 4 * 2**28 / statistics.median(seconds[1:])


def bytes_per_token(config: GPT2Config, stored: int | None = None) -> int:
    """Return the bytes of weights read per token: all but the position embeddings; `wte` counts as the head.

    `stored` are the bytes of all weights as they are stored, by default in float32. Position embeddings are float32.
    """
    shapes = {name: shape for name, shape in canonical_shapes(config).items() if name != LM_HEAD}
    total = 4 * sum(prod(shape) for shape in shapes.values()) if stored is None else stored
    return total - 4 * config.n_positions * config.n_embd
