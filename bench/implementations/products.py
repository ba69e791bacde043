"""The matrix products of scoring alone, through the kernels of max-gpt2: a bound for its speed, not a scorer.

For texts of n + 1 ids in total n tokens, the four linear layers of every block run on all tokens at once, and the head
on HEAD_ROWS tokens at a time, so that its logits take little memory. Everything else is left out: embeddings, layer
norms, attention, activations, residuals and the statistics of the logits.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import TensorType

from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.checkpoint.layout import LM_HEAD
from max_gpt2.model.compile import compile_for_cpu
from max_gpt2.model.ops_mojo import MojoOps
from max_gpt2.model.session import Run
from max_gpt2.system.machine import with_timer_slack

HEAD_ROWS = 256
_LINEARS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_OPS = MojoOps()


class Linear(Module[..., Tensor]):
    """A linear layer whose parameters are inputs of the graph."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return x @ weight + bias: [tokens, in], [in, out], [out] -> [tokens, out]."""
        return _OPS.linear(x, weight, bias, "none")


class Head(Module[..., Tensor]):
    """The language-model head, whose weight is an input of the graph."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return x @ weight.T: [tokens, n_embd], [vocab, n_embd] -> [tokens, vocab]."""
        return _OPS.logits(x, weight)


def load_scorer(folder: str) -> Callable[[list[list[int]]], list[list[float]]]:
    """Load the weights and compile the two products."""
    checkpoint = load_checkpoint(folder)
    config, weights = checkpoint.config, checkpoint.state_dict
    linear = _compile(Linear, _type("tokens", "in"), _type("in", "out"), _type("out"))
    head = _compile(Head, _type("tokens", config.n_embd), _type(config.vocab_size, config.n_embd))
    layers = [
        [Buffer.from_numpy(weights[f"transformer.h.{layer}.{name}.{part}"]) for part in ("weight", "bias")]
        for layer in range(config.n_layer)
        for name in _LINEARS
    ]
    table = Buffer.from_numpy(weights[LM_HEAD])

    @cache  # filled by the warm-up
    def inputs(tokens: int, width: int) -> Buffer:
        return Buffer.from_numpy(np.random.default_rng(tokens).standard_normal((tokens, width), dtype=np.float32))

    def score(texts: list[list[int]]) -> list[list[float]]:
        tokens = len(texts) * (len(texts[0]) - 1)
        for weight, bias in layers:
            linear(inputs(tokens, weight.shape[0]), weight, bias)
        for start in range(0, tokens, HEAD_ROWS):
            head(inputs(min(HEAD_ROWS, tokens - start), config.n_embd), table)
        return []

    return score


def _compile(module: type[Module[..., Tensor]], *types: TensorType) -> Run:
    return with_timer_slack(compile_for_cpu(module, list(types), {}, _OPS).execute_raw)


def _type(*shape: int | str) -> TensorType:
    return TensorType(DType.float32, shape, device=CPU())
