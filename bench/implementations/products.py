"""The matrix products of scoring alone, through the kernels of max-gpt2: a bound for its speed, not a scorer.

For texts of n + 1 ids in total n tokens, the four linear layers of every block run on all tokens at once, and the head
on HEAD_ROWS tokens at a time, so that its logits take little memory. Everything else is left out: embeddings, layer
norms, attention, activations, residuals and the statistics of the logits.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from max.driver import Buffer

from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.model.compile_cache import load_or_compile_stages
from max_gpt2.weights import LM_HEAD

HEAD_ROWS = 256
_LINEARS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def load_scorer(folder: str) -> Callable[[list[list[int]]], list[list[float]]]:
    """Load the weights and compile the two products."""
    checkpoint = load_checkpoint(folder)
    config, weights = checkpoint.config, checkpoint.state_dict
    graphs = load_or_compile_stages()
    linear, head = graphs["linear"], graphs["logits"]
    names = [f"transformer.h.{layer}.{name}" for layer in range(config.n_layer) for name in _LINEARS]
    layers = [(weights[f"{name}.weight"], Buffer.from_numpy(weights[f"{name}.bias"])) for name in names]
    as_bytes = {id(weight): Buffer.from_numpy(weight.view(np.uint8).reshape(-1)) for weight, _ in layers}
    table, float32 = Buffer.from_numpy(weights[LM_HEAD].view(np.uint8)), Buffer.from_numpy(np.zeros(2, np.int64))

    @cache  # filled by the warm-up
    def inputs(tokens: int, width: int) -> Buffer:
        return Buffer.from_numpy(np.random.default_rng(tokens).standard_normal((tokens, width), dtype=np.float32))

    def score(texts: list[list[int]]) -> list[list[float]]:
        tokens = len(texts) * (len(texts[0]) - 1)
        for weight, bias in layers:
            linear(inputs(tokens, weight.shape[0]), as_bytes[id(weight)], float32, bias)
        for start in range(0, tokens, HEAD_ROWS):
            head(inputs(min(HEAD_ROWS, tokens - start), config.n_embd), table, float32)
        return []

    return score
