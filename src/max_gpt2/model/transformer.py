"""The GPT-2 transformer in MAX's own operations: embeddings, blocks and the language-model head.

`kernels/transformer.mojo` is the same model as one operation, and `stages.py` the same as operations that run one by
one.
"""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module, Sequential, as_subgraph
from max.experimental.tensor import Tensor

from max_gpt2.config import ACTIVATIONS, Activation, GPT2Config
from max_gpt2.model import ops_max as ops


class Conv1D(Module[[Tensor], Tensor]):
    """A linear layer with a weight of shape [in, out], as in OpenAI's code: activation(x @ weight + bias)."""

    def __init__(self, inputs: int, outputs: int, activation: Activation = "none") -> None:
        """Declare `weight` [inputs, outputs] and `bias` [outputs]."""
        self.weight = Tensor.zeros([inputs, outputs])
        self.bias = Tensor.zeros([outputs])
        self.activation: Activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to every token: [tokens, inputs] -> [tokens, outputs]."""
        return ops.linear(x, self.weight, self.bias, self.activation)


class LayerNorm(Module[[Tensor], Tensor]):
    """Layer normalization of the last axis, (x - mean) / sqrt(var + eps) * weight + bias: Ba et al. 2016."""

    def __init__(self, dim: int, eps: float) -> None:
        """Declare `weight` and `bias`, both [dim]."""
        self.weight = Tensor.ones([dim])
        self.bias = Tensor.zeros([dim])
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize: [tokens, dim] -> [tokens, dim]."""
        return ops.layer_norm(x, self.weight, self.bias, self.eps)


class Embedding(Module[[], Tensor]):
    """A table of learned vectors, one for each id."""

    def __init__(self, rows: int, n_embd: int) -> None:
        """Declare `weight` [rows, n_embd]."""
        self.weight = Tensor.zeros([rows, n_embd])

    def forward(self) -> Tensor:
        """Return the table: [rows, n_embd]; `ops_max.embed` looks up its rows."""
        return self.weight


class Attention(Module[..., Tensor]):
    """Multi-head attention with a fused query, key and value layer: Vaswani et al. 2017, section 3.2."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the two linear layers."""
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """Apply attention: [tokens, n_embd] -> [tokens, n_embd]; see `ops_max.attention` for the other arguments."""
        return self.c_proj(ops.attention(self.c_attn(x), layer, scale, *cache))


class MLP(Module[[Tensor], Tensor]):
    """A feed-forward network: two linear layers, the first with the activation of the config."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the two layers."""
        activation = ACTIVATIONS[config.activation_function]
        self.c_fc = Conv1D(config.n_embd, config.intermediate_size, activation)
        self.c_proj = Conv1D(config.intermediate_size, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network to every token: [tokens, n_embd] -> [tokens, n_embd]."""
        return self.c_proj(self.c_fc(x))


class Block(Module[..., Tensor]):
    """A pre-norm transformer block: Radford et al. 2019, section 2.3."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the four layers."""
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, indices: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """Apply the block and return the rows at `indices`: [tokens, n_embd], [rows] of int64 -> [rows, n_embd].

        `indices` ascend; see `ops_max.attention` for the other arguments.
        """
        x = x + self.attn(self.ln_1(x), layer, scale, *cache)
        if indices.shape != x.shape[:1]:
            x = F.gather(x, indices, axis=0)
        return self.feed_forward(x)[-1]

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

    def __init__(self, config: GPT2Config) -> None:
        """Create the layers; attribute names are the tensor names of the checkpoint."""
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.h = Sequential(*(Block(config) for _ in range(config.n_layer)))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.scales = [config.attention_scale(layer) for layer in range(config.n_layer)]

    def forward(self, ids: Tensor, positions: Tensor, logits_indices: Tensor, *cache: Tensor) -> Tensor:
        """Return the final hidden states at `logits_indices`, which ascend; see `ops_max.attention` for `cache`.

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
        return ops.embed(ids, positions, self.wte(), self.wpe())

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
            for number, scale in enumerate(self.scales)
        ]


class LanguageModel(Module[..., Tensor]):
    """The transformer with its head."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the transformer and the head; `lm_head.weight` [vocab, n_embd] is loaded even when it is tied."""
        self.transformer = Transformer(config)
        self.lm_head = Embedding(config.vocab_size, config.n_embd)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the logits at `logits_indices`: [rows, vocab].

        `inputs` are the arrays of `RaggedBatch`, the buffers of the cache, and the mask [tokens, total].
        """
        ids, positions, row_offsets, cache_lengths, slots, logits_indices, *cache = inputs
        x = self.transformer(ids, positions, logits_indices, row_offsets, cache_lengths, slots, *cache)
        return ops.logits(x, self.lm_head())


class HiddenStates(Module[..., tuple[Tensor, ...]]):
    """The transformer with all hidden states as outputs."""

    def __init__(self, config: GPT2Config) -> None:
        """Create the transformer."""
        self.transformer = Transformer(config)

    def forward(self, rows: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the token embeddings at `rows` and every hidden state.

        [rows] of int64 and the inputs of `Transformer.hidden_states` -> [rows, n_embd], and [tokens, n_embd] for each
        of `state_names`.
        """
        return F.gather(self.transformer.wte(), rows, axis=0), *self.transformer.hidden_states(*inputs)
