"""The GPT-2 transformer: embeddings, blocks and the language-model head, over a ragged batch of tokens."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module, Sequential, as_subgraph
from max.experimental.tensor import Tensor

from max_gpt2.config import ACTIVATIONS, Activation, GPT2Config
from max_gpt2.model.ops import BlockWeights, LayerWeights, Ops
from max_gpt2.model.ops_mojo import MojoOps


class Conv1D(Module[[Tensor], Tensor]):
    """A linear layer with a weight of shape [in, out], as in OpenAI's code: activation(x @ weight + bias)."""

    def __init__(self, inputs: int, outputs: int, ops: Ops, activation: Activation = "none") -> None:
        """Declare `weight` [inputs, outputs] and `bias` [outputs]."""
        self.weight = Tensor.zeros([inputs, outputs])
        self.bias = Tensor.zeros([outputs])
        self.ops = ops
        self.activation: Activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to every token: [tokens, inputs] -> [tokens, outputs]."""
        return self.ops.linear(x, self.weight, self.bias, self.activation)

    def weights(self) -> LayerWeights:
        """Return the parameters of the layer."""
        return LayerWeights(self.weight, self.bias)


class LayerNorm(Module[[Tensor], Tensor]):
    """Layer normalization of the last axis, (x - mean) / sqrt(var + eps) * weight + bias: Ba et al. 2016."""

    def __init__(self, dim: int, eps: float, ops: Ops) -> None:
        """Declare `weight` and `bias`, both [dim]."""
        self.weight = Tensor.ones([dim])
        self.bias = Tensor.zeros([dim])
        self.eps = eps
        self.ops = ops

    def forward(self, x: Tensor) -> Tensor:
        """Normalize: [tokens, dim] -> [tokens, dim]."""
        return self.ops.layer_norm(x, self.weight, self.bias, self.eps)

    def weights(self) -> LayerWeights:
        """Return the parameters of the layer."""
        return LayerWeights(self.weight, self.bias)


class Embedding(Module[[], Tensor]):
    """A table of learned vectors, one for each id."""

    def __init__(self, rows: int, n_embd: int) -> None:
        """Declare `weight` [rows, n_embd]."""
        self.weight = Tensor.zeros([rows, n_embd])

    def forward(self) -> Tensor:
        """Return the table: [rows, n_embd]; `Ops` look up its rows."""
        return self.weight


class Attention(Module[..., Tensor]):
    """Multi-head attention with a fused query, key and value layer: Vaswani et al. 2017, section 3.2."""

    def __init__(self, config: GPT2Config, ops: Ops) -> None:
        """Create the two linear layers."""
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd, ops)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, ops)
        self.ops = ops

    def forward(self, x: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """Apply attention: [tokens, n_embd] -> [tokens, n_embd]; see `Ops.attention` for the other arguments."""
        return self.c_proj(self.ops.attention(self.c_attn(x), layer, scale, *cache))


class MLP(Module[[Tensor], Tensor]):
    """A feed-forward network: two linear layers, the first with the activation of the config."""

    def __init__(self, config: GPT2Config, ops: Ops) -> None:
        """Create the two layers."""
        activation = ACTIVATIONS[config.activation_function]
        self.c_fc = Conv1D(config.n_embd, config.intermediate_size, ops, activation)
        self.c_proj = Conv1D(config.intermediate_size, config.n_embd, ops)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network to every token: [tokens, n_embd] -> [tokens, n_embd]."""
        return self.c_proj(self.c_fc(x))


class Block(Module[..., Tensor]):
    """A pre-norm transformer block: Radford et al. 2019, section 2.3."""

    def __init__(self, config: GPT2Config, ops: Ops) -> None:
        """Create the four layers."""
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon, ops)
        self.attn = Attention(config, ops)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon, ops)
        self.mlp = MLP(config, ops)
        self.ops = ops

    def forward(self, x: Tensor, indices: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """Apply the block and return the rows at `indices`: [tokens, n_embd], [rows] of int64 -> [rows, n_embd].

        See `Ops.block` for the arguments.
        """
        return self.ops.block(x, self.weights(), indices, layer, scale, *cache)

    def weights(self) -> BlockWeights:
        """Return the parameters of all layers."""
        return BlockWeights(
            ln_1=self.ln_1.weights(),
            c_attn=self.attn.c_attn.weights(),
            attn_proj=self.attn.c_proj.weights(),
            ln_2=self.ln_2.weights(),
            c_fc=self.mlp.c_fc.weights(),
            mlp_proj=self.mlp.c_proj.weights(),
            eps=self.ln_1.eps,
            activation=self.mlp.c_fc.activation,
        )

    def hidden_states(self, x: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Apply the block and return all of `BLOCK_STATES`, each [tokens, n_embd]."""
        normed = self.ln_1(x)
        attended = self.attn(normed, layer, scale, *cache)
        return normed, attended, *self.feed_forward(x + attended)

    def feed_forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the second half of the block and return the last three of `BLOCK_STATES`, each [tokens, n_embd]."""
        normed = self.ln_2(x)
        output = self.mlp(normed)
        return normed, output, x + output


class Transformer(Module[..., Tensor]):
    """The transformer without its head: token ids to final hidden states."""

    def __init__(self, config: GPT2Config, ops: Ops, *, one_cache: bool = False) -> None:
        """Create the layers; attribute names are the tensor names of the checkpoint.

        With `one_cache`, all layers use the cache of the first, one after the other: enough for sequences that are
        computed in one call.
        """
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.h = Sequential(*(Block(config, ops) for _ in range(config.n_layer)))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon, ops)
        self.scales = [config.attention_scale(layer) for layer in range(config.n_layer)]
        self.cache_layers = [0 if one_cache else layer for layer in range(config.n_layer)]
        self.ops = ops

    def forward(self, ids: Tensor, positions: Tensor, logits_indices: Tensor, *cache: Tensor) -> Tensor:
        """Return the final hidden states at `logits_indices`, which ascend; see `Ops.attention` for `cache`.

        [tokens] of int64, twice, and [rows] of int64 -> [rows, n_embd].
        """
        x = self.embed(ids, positions)  # [tokens, n_embd]
        all_tokens = F.arange(0, Tensor.from_dim(x.shape[0]), 1, x.shape[0], dtype=DType.int64)
        *layers, last = zip(self.h, self._layers(), strict=True)
        for block, layer in layers:
            # One subgraph serves all layers: they differ only in their weights and arguments.
            x = as_subgraph(block, name="block")(x, all_tokens, *layer, *cache)
        block, layer = last
        return self.ln_f(block(x, logits_indices, *layer, *cache))

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Add token and position embeddings: [tokens] of int64, twice -> [tokens, n_embd]."""
        return self.ops.embed(ids, positions, self.wte(), self.wpe())

    def hidden_states(self, ids: Tensor, positions: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Return every hidden state, each [tokens, n_embd], in the order of `state_names`."""
        x = self.embed(ids, positions)
        states = [x]
        for number, (block, layer) in enumerate(zip(self.h, self._layers(), strict=True)):
            whole = as_subgraph(block.hidden_states, name="block", prefix=f"transformer.h.{number}")
            states += whole(x, *layer, *cache)
            x = states[-1]
        return (*states, self.ln_f(x))

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Return the index of each layer in the cache and the scale of its attention scores, both as scalars."""
        return [
            (Tensor(number, dtype=DType.int64), Tensor(scale, dtype=DType.float32))
            for number, scale in zip(self.cache_layers, self.scales, strict=True)
        ]


class LanguageModel(Module[..., Tensor]):
    """The transformer with its head."""

    def __init__(self, config: GPT2Config, ops: Ops) -> None:
        """Create the transformer and the head; `lm_head.weight` [vocab, n_embd] is loaded even when it is tied."""
        self.transformer = Transformer(config, ops)
        self.lm_head = Embedding(config.vocab_size, config.n_embd)
        self.ops = ops

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the logits at `logits_indices`: [rows, vocab].

        `inputs` are the arrays of `RaggedBatch`, the buffers of the cache, and the inputs of `Ops.extra_types`.
        """
        ids, positions, row_offsets, cache_lengths, slots, logits_indices, *cache = inputs
        x = self.transformer(ids, positions, logits_indices, row_offsets, cache_lengths, slots, *cache)
        return self.ops.logits(x, self.lm_head())


class ScoringModule(Module[..., tuple[Tensor, ...]]):
    """The transformer with a head that scores given next tokens, in sequences without a cached beginning."""

    def __init__(self, config: GPT2Config, ops: MojoOps) -> None:
        """Create the transformer and the head."""
        self.transformer = Transformer(config, ops, one_cache=True)
        self.lm_head = Embedding(config.vocab_size, config.n_embd)
        self.ops = ops

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the results of `MojoOps.token_scores` at `logits_indices`.

        `inputs` are the arrays of `RaggedBatch`, `targets` [rows], `mask` [vocab], `best` [top], and the buffers of a
        cache with one layer.
        """
        ids, positions, row_offsets, cache_lengths, slots, logits_indices, targets, mask, best, *cache = inputs
        x = self.transformer(ids, positions, logits_indices, row_offsets, cache_lengths, slots, *cache)
        return self.ops.token_scores(x, self.lm_head(), targets, mask, best)


class ServedModule(Module[..., tuple[Tensor, ...]]):
    """The transformer with both heads: logits of some tokens, scores of given next tokens of others."""

    def __init__(self, config: GPT2Config, ops: MojoOps) -> None:
        """Create the transformer and the head."""
        self.transformer = Transformer(config, ops)
        self.lm_head = Embedding(config.vocab_size, config.n_embd)
        self.ops = ops

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the logits at `sampled`, [sampled, vocab], and the results of `MojoOps.token_scores` at `scored`.

        `inputs` are the arrays of `RaggedBatch`, with `lookup_table` instead of `slots`; `sampled` and `scored`, which
        index `logits_indices` and may be empty; `targets` [scored], `mask` [vocab], `best` [top], and the buffers of
        the cache.
        """
        ids, positions, row_offsets, cache_lengths, table, logits_indices, sampled, scored, *rest = inputs
        targets, mask, best, *cache = rest
        x = self.transformer(ids, positions, logits_indices, row_offsets, cache_lengths, table, *cache)
        logits = self.ops.logits(F.gather(x, sampled, axis=0), self.lm_head())
        scores = self.ops.token_scores(F.gather(x, scored, axis=0), self.lm_head(), targets, mask, best)
        return logits, *scores
