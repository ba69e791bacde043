"""The interface between the transformer and its kernels: two classes implement it, `MojoOps` and `MaxOps`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from max.experimental.tensor import Tensor
from max.graph import TensorType

from max_gpt2.config import Activation


class CacheInputs(NamedTuple):
    """The graph inputs that locate each sequence in the contiguous cache; see `RaggedBatch` and `KVCache`.

    `row_offsets` [batch + 1], `cache_lengths` [batch] and `slots` [batch] are int64. `keys` is
    [n_layer, slots, n_head, head_dim, capacity], `values` is [n_layer, slots, n_head, capacity, head_dim]. `extra` is
    the input of `Ops.extra_types`, if there is one.
    """

    row_offsets: Tensor
    cache_lengths: Tensor
    slots: Tensor
    keys: Tensor
    values: Tensor
    extra: Tensor | None = None


class PagedCacheInputs(NamedTuple):
    """The graph inputs that locate each sequence in a paged cache.

    `lookup_table` [batch, pages] of int64 has the indices of each sequence's pages in `blocks`
    [pages, 2, n_layer, page_size, n_head, head_dim], the layout of MAX's server. The page size is a multiple of 64.
    """

    row_offsets: Tensor
    cache_lengths: Tensor
    lookup_table: Tensor
    blocks: Tensor


class LayerWeights(NamedTuple):
    """The parameters of a linear layer (`weight` is [in, out]) or of a layer norm (`weight` is [n_embd])."""

    weight: Tensor
    bias: Tensor


class BlockWeights(NamedTuple):
    """The parameters of a transformer block, with the epsilon of its layer norms and the activation of its MLP."""

    ln_1: LayerWeights
    c_attn: LayerWeights
    attn_proj: LayerWeights
    ln_2: LayerWeights
    c_fc: LayerWeights
    mlp_proj: LayerWeights
    eps: float
    activation: Activation

    @property
    def layers(self) -> tuple[LayerWeights, ...]:
        """Return the parameters of all layers, in the order in which they are applied."""
        return self.ln_1, self.c_attn, self.attn_proj, self.ln_2, self.c_fc, self.mlp_proj


class Ops(Protocol):
    """The expensive operations of the transformer. `tokens` is the total over a ragged batch of sequences."""

    #: Folders of Mojo files that the graph needs.
    extensions: Sequence[Path]
    #: Types of additional graph inputs, at most one.
    extra_types: Sequence[TensorType]

    def embed(self, ids: Tensor, positions: Tensor, wte: Tensor, wpe: Tensor) -> Tensor:
        """Add token and position embeddings: [tokens] of int64, twice -> [tokens, n_embd]."""
        ...

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
        """Return activation(x @ weight + bias): [tokens, in], [in, out], [out] -> [tokens, out]."""
        ...

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Return (x - mean) / sqrt(var + eps) * weight + bias of each row: [tokens, n_embd] -> [tokens, n_embd]."""
        ...

    def attention(self, qkv: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """Apply causal attention: [tokens, 3 * n_embd] -> [tokens, n_embd].

        Stores the new keys and values in the cache of `layer`, a scalar of int64. Attention scores are multiplied by
        `scale`, a scalar of float32. `cache` has the fields of `CacheInputs`, or of `PagedCacheInputs` for a paged
        cache.
        """
        ...

    def block(
        self, x: Tensor, weights: BlockWeights, indices: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor
    ) -> Tensor:
        """Apply a block and return the rows at `indices`: [tokens, n_embd], [rows] of int64 -> [rows, n_embd].

        `indices` must be in ascending order. `layer`, `scale` and `cache` are those of `attention`.
        """
        ...

    def logits(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return x @ weight.T: [tokens, n_embd], [vocab, n_embd] -> [tokens, vocab]."""
        ...
