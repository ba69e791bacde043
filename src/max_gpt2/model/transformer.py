"""The transformer: embeddings, blocks, and the head on the positions that are asked for."""

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module, Sequential, as_subgraph
from max.experimental.tensor import Tensor

from max_gpt2.config import ACTIVATIONS, Activation, GPT2Config
from max_gpt2.model.ops import Operations


class Conv1D(Module[[Tensor], Tensor]):
    """A linear layer whose weight is stored [in, out], as OpenAI's code had it: activation(x @ weight + bias)."""

    def __init__(self, inputs: int, outputs: int, operations: Operations, activation: Activation = "none") -> None:
        """Make room for `weight` [inputs, outputs] and `bias` [outputs]."""
        self.weight = Tensor.zeros([inputs, outputs])
        self.bias = Tensor.zeros([outputs])
        self.operations = operations
        self.activation: Activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every token: [tokens, inputs] -> [tokens, outputs]."""
        return self.operations.linear(x, self.weight, self.bias, self.activation)


class LayerNorm(Module[[Tensor], Tensor]):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis: Ba et al. 2016."""

    def __init__(self, dim: int, eps: float, operations: Operations) -> None:
        """Make room for `weight` and `bias`, both [dim]."""
        self.weight = Tensor.ones([dim])
        self.bias = Tensor.zeros([dim])
        self.eps = eps
        self.operations = operations

    def forward(self, x: Tensor) -> Tensor:
        """Normalize: [tokens, dim] -> [tokens, dim]."""
        return self.operations.layer_norm(x, self.weight, self.bias, self.eps)


class Table(Module[[], Tensor]):
    """Learned vectors, one for each number."""

    def __init__(self, rows: int, n_embd: int) -> None:
        """Make room for `weight` [rows, n_embd]."""
        self.weight = Tensor.zeros([rows, n_embd])

    def forward(self) -> Tensor:
        """Return the table: [rows, n_embd]."""
        return self.weight


class Attention(Module[..., Tensor]):
    """Multi-head attention with a fused query, key and value layer: Vaswani et al. 2017, section 3.2."""

    def __init__(self, config: GPT2Config, operations: Operations) -> None:
        """Make the two linear layers."""
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd, operations)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, operations)
        self.operations = operations

    def forward(self, x: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """Attend: [tokens, n_embd] -> [tokens, n_embd]; the rest is that of `Operations.attention`."""
        return self.c_proj(self.operations.attention(self.c_attn(x), layer, scale, *texts))


class MLP(Module[[Tensor], Tensor]):
    """Two linear layers, the first with the config's activation."""

    def __init__(self, config: GPT2Config, operations: Operations) -> None:
        """Make the two layers."""
        activation = ACTIVATIONS[config.activation_function]
        self.c_fc = Conv1D(config.n_embd, config.intermediate_size, operations, activation)
        self.c_proj = Conv1D(config.intermediate_size, config.n_embd, operations)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every token: [tokens, n_embd] -> [tokens, n_embd]."""
        return self.c_proj(self.c_fc(x))


class Block(Module[..., Tensor]):
    """A pre-norm transformer block: Radford et al. 2019, section 2.3."""

    def __init__(self, config: GPT2Config, operations: Operations) -> None:
        """Make the four parts."""
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon, operations)
        self.attn = Attention(config, operations)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon, operations)
        self.mlp = MLP(config, operations)
        self.operations = operations

    def forward(self, x: Tensor, kept: Tensor, *attending: Tensor) -> Tensor:
        """Apply the block, and return it for some tokens: [tokens, n_embd], [kept] of int64 -> [kept, n_embd].

        `kept` are numbers of tokens that rise; `attending` is what `Attention` wants.
        """
        return self.operations.block(x, self, kept, *attending)

    def states(self, x: Tensor, *attending: Tensor) -> tuple[Tensor, ...]:
        """Apply the block and return all of `BLOCK_STATES`, each [tokens, n_embd]."""
        normed = self.ln_1(x)
        attended = self.attn(normed, *attending)
        return normed, attended, *self.feed(x + attended)

    def feed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply what comes after the attention, and return the last three of `BLOCK_STATES`, each [tokens, n_embd]."""
        normed = self.ln_2(x)
        fed = self.mlp(normed)
        return normed, fed, x + fed


class Transformer(Module[..., Tensor]):
    """Token ids to the last hidden states of the tokens that are asked for."""

    def __init__(self, config: GPT2Config, operations: Operations) -> None:
        """Make the parts; their names are those of the checkpoint."""
        self.wte = Table(config.vocab_size, config.n_embd)
        self.wpe = Table(config.n_positions, config.n_embd)
        self.h = Sequential(*(Block(config, operations) for _ in range(config.n_layer)))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon, operations)
        self.scales = [config.attention_scale(layer) for layer in range(config.n_layer)]
        self.operations = operations

    def forward(self, ids: Tensor, positions: Tensor, kept: Tensor, *texts: Tensor) -> Tensor:
        """Return the last hidden states of the tokens `kept`, which rise; `texts` is a `Texts`.

        [tokens] of int64, twice, and [kept] of int64 -> [kept, n_embd].
        """
        x = self.embed(ids, positions)
        every = F.arange(0, Tensor.from_dim(x.shape[0]), 1, x.shape[0], dtype=DType.int64)
        *layers, last = zip(self.h, self._layers(), strict=True)
        for block, layer in layers:
            # One subgraph serves all layers: they differ in their weights, and in what is handed in.
            x = as_subgraph(block, name="block")(x, every, *layer, *texts)
        block, layer = last
        return self.ln_f(block(x, kept, *layer, *texts))

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Add what each token means and where it stands: [tokens] of int64, twice -> [tokens, n_embd]."""
        return self.operations.embed(ids, positions, self.wte(), self.wpe())

    def states(self, ids: Tensor, positions: Tensor, *texts: Tensor) -> tuple[Tensor, ...]:
        """Return every hidden state on the way, each [tokens, n_embd], in the order of `state_names`."""
        x = self.embed(ids, positions)
        states = [x]
        for number, (block, layer) in enumerate(zip(self.h, self._layers(), strict=True)):
            whole = as_subgraph(block.states, name="block", prefix=f"transformer.h.{number}")
            states += whole(x, *layer, *texts)
            x = states[-1]
        return (*states, self.ln_f(x))

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Return the number of each layer, and the scale of its attention."""
        return [
            (Tensor(number, dtype=DType.int64), Tensor(scale, dtype=DType.float32))
            for number, scale in enumerate(self.scales)
        ]


class LanguageModel(Module[..., Tensor]):
    """The transformer with its head."""

    def __init__(self, config: GPT2Config, operations: Operations) -> None:
        """Make the transformer and the head; `lm_head.weight` [vocab, n_embd] is loaded also when it is tied."""
        self.transformer = Transformer(config, operations)
        self.lm_head = Table(config.vocab_size, config.n_embd)
        self.operations = operations

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        offsets: Tensor,
        lengths: Tensor,
        slots: Tensor,
        kept: Tensor,
        *rest: Tensor,
    ) -> Tensor:
        """Return the logits after the tokens `kept`, [kept, vocab].

        All but the rest is a `NewTokens`; the rest is the two buffers of a `Cache`, and what the operations want.
        """
        x = self.transformer(ids, positions, kept, offsets, lengths, slots, *rest)
        return self.operations.logits(x, self.lm_head())
