"""What the transformer is made of. There are two ways to compute it: with kernels of our own, and with MAX's."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from max.experimental.tensor import Tensor
from max.graph import TensorType

from max_gpt2.config import Activation
from max_gpt2.model.batch import Kernels

if TYPE_CHECKING:
    from max_gpt2.model.transformer import Block


class Texts(NamedTuple):
    """What the new tokens belong to, as tensors of the graph: see `NewTokens`, `Cache` and `Operations.extra_types`."""

    offsets: Tensor
    lengths: Tensor
    slots: Tensor
    keys: Tensor
    values: Tensor
    extra: Tensor | None = None


class PagedTexts(NamedTuple):
    """The same for a cache in pages: its `blocks`, and which of them each text has, `table` [texts, pages] of int64.

    `blocks` is [pages, 2, n_layer, page, n_head, head_dim], as MAX's server keeps them, page being a multiple of 64.
    """

    offsets: Tensor
    lengths: Tensor
    table: Tensor
    blocks: Tensor


class Operations(Protocol):
    """The operations that take the time. `tokens` are those of several texts, one text after another."""

    #: Folders of Mojo files that the graph needs.
    extensions: Sequence[Path]
    #: Inputs of the graph that only these operations need, at most one.
    extra_types: Sequence[TensorType]

    def embed(self, ids: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
        """Add the rows of two tables: [tokens] of int64, twice -> [tokens, n_embd]."""
        ...

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
        """Return activation(x @ weight + bias): [tokens, in], [in, out], [out] -> [tokens, out]."""
        ...

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Return (x - mean) / sqrt(var + eps) * weight + bias of each row: [tokens, n_embd] -> [tokens, n_embd]."""
        ...

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """Attend to the tokens before each, itself included: [tokens, 3 * n_embd] -> [tokens, n_embd].

        The new keys and values are put into the cache of this layer, a scalar of int64. The scores are multiplied by
        `scale`, a scalar. `texts` is a `Texts`, or what else these operations keep a cache in.
        """
        ...

    def block(self, x: Tensor, block: "Block", kept: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """Apply a block, and return it for the tokens `kept`: [tokens, n_embd], [kept] of int64 -> [kept, n_embd].

        The numbers of the tokens rise. `layer`, `scale` and `texts` are as for `attention`.
        """
        ...

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return x @ weight.T: [tokens, n_embd], [vocab, n_embd] -> [tokens, vocab]."""
        ...


def operations(kernels: Kernels) -> Operations:
    """Return the operations by their name."""
    from max_gpt2.model.ops_max import BuiltinOperations
    from max_gpt2.model.ops_mojo import MojoOperations

    return MojoOperations() if kernels == "mojo" else BuiltinOperations()
