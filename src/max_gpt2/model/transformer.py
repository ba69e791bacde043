"""The transformer: embeddings, blocks, and the head on the positions that are asked for."""

from collections.abc import Sequence

from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Linear, Module, Sequential, as_subgraph
from max.experimental.tensor import Tensor
from max.graph import TensorValue

from max_gpt2.config import GPT2Config
from max_gpt2.model.activations import FUNCTIONS
from max_gpt2.model.attention import Attention
from max_gpt2.model.cache import LayerCache

#: What `Block.states` returns: the outputs of its four parts, named as they are, and of the block, which has no suffix.
BLOCK_STATES = (".ln_1", ".attn", ".ln_2", ".mlp", "")


class Table(Module[[Tensor], Tensor]):
    """Learned vectors, looked up by number."""

    def __init__(self, rows: int, n_embd: int) -> None:
        """Make room for `weight` [rows, n_embd]."""
        self.weight = Tensor.zeros([rows, n_embd])

    def forward(self, numbers: Tensor) -> Tensor:
        """Look up: [...] of int64 -> [..., n_embd]."""
        return F.gather(self.weight, numbers, axis=0)


class LayerNorm(Module[[Tensor], Tensor]):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis: Ba et al. 2016."""

    def __init__(self, dim: int, eps: float) -> None:
        """Make room for `weight` and `bias`, both [dim]."""
        self.weight = Tensor.ones([dim])
        self.bias = Tensor.zeros([dim])
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize: [..., dim] -> [..., dim]."""
        return F.layer_norm(x, gamma=self.weight, beta=self.bias, epsilon=self.eps)


class MLP(Module[[Tensor], Tensor]):
    """Two linear layers with the config's activation between them."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the two layers."""
        self.c_fc = Linear(config.n_embd, config.intermediate_size, bias=True)
        self.c_proj = Linear(config.intermediate_size, config.n_embd, bias=True)
        self.activation_function = config.activation_function

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every token: [batch, seq, n_embd] -> [batch, seq, n_embd]."""
        return self.c_proj(FUNCTIONS[self.activation_function](self.c_fc(x)))


class Block(Module[..., Tensor]):
    """A pre-norm transformer block: Radford et al. 2019, section 2.3."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the four parts."""
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, *attending: Tensor) -> Tensor:
        """Apply the block: [batch, seq, n_embd] -> [batch, seq, n_embd]; `attending` is what `Attention` wants."""
        return self.states(x, *attending)[-1]

    def states(self, x: Tensor, *attending: Tensor) -> tuple[Tensor, ...]:
        """Apply the block and return all of `BLOCK_STATES`, each [batch, seq, n_embd]."""
        normed = self.ln_1(x)
        attended = self.attn(normed, *attending)
        x = x + attended
        normed_again = self.ln_2(x)
        fed = self.mlp(normed_again)
        return normed, attended, normed_again, fed, x + fed


class Transformer(Module[..., Tensor]):
    """Token ids to the last hidden states."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the parts; their names are those of the checkpoint."""
        self.wte = Table(config.vocab_size, config.n_embd)
        self.wpe = Table(config.n_positions, config.n_embd)
        self.h = Sequential(*(Block(config) for _ in range(config.n_layer)))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.scales = [config.attention_scale(layer) for layer in range(config.n_layer)]

    def forward(self, input_ids: Tensor, positions: Tensor, mask: Tensor, cache: Sequence[LayerCache]) -> Tensor:
        """Return the last hidden states: [batch, seq] of int64, twice -> [batch, seq, n_embd].

        `mask` [batch, 1, seq, total] is added to the attention scores; `cache` has an entry for each layer.
        """
        x = self.embed(input_ids, positions)
        for block, scale, layer in zip(self.h, self._scales(), cache, strict=True):
            # One subgraph serves all layers: they differ in their weights, and in what is handed in.
            x = as_subgraph(block, name="block")(x, scale, mask, *layer)
        return self.ln_f(x)

    def embed(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """Add what each token means and where it stands: [batch, seq] of int64, twice -> [batch, seq, n_embd]."""
        return self.wte(input_ids) + self.wpe(positions)

    def states(self, input_ids: Tensor, positions: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return every hidden state on the way, each [batch, seq, n_embd], in the order of `state_names`."""
        x = self.embed(input_ids, positions)
        states = [x]
        for layer, (block, scale) in enumerate(zip(self.h, self._scales(), strict=True)):
            whole = as_subgraph(block.states, name="block", prefix=f"transformer.h.{layer}")
            states += whole(x, scale, mask)
            x = states[-1]
        return (*states, self.ln_f(x))

    def _scales(self) -> list[Tensor]:
        return [Tensor(scale, dtype=DType.float32) for scale in self.scales]


def state_names(n_layer: int) -> list[str]:
    """Return the names of all hidden states: "embeddings", "h.0.ln_1", ..., "h.0" (the block's output), ..., "ln_f"."""
    blocks = [f"h.{layer}{part}" for layer in range(n_layer) for part in BLOCK_STATES]
    return ["embeddings", *blocks, "ln_f"]


class LanguageModel(Module[..., Tensor]):
    """The transformer with its head."""

    def __init__(self, config: GPT2Config) -> None:
        """Make the transformer and the head; `lm_head.weight` [vocab, n_embd] is loaded also when it is tied."""
        self.transformer = Transformer(config)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(
        self, input_ids: Tensor, positions: Tensor, mask: Tensor, first: Tensor, start: Tensor, *buffers: Tensor
    ) -> Tensor:
        """Return the logits from position `first` of the new tokens on, [batch, kept, vocab].

        `buffers` are the keys of every layer and then the values, with `start` tokens in them.
        """
        n_layer = len(buffers) // 2
        cache = [LayerCache(*pair, start) for pair in zip(buffers[:n_layer], buffers[n_layer:], strict=True)]
        x = self.transformer(input_ids, positions, mask, cache)
        x = x[:, (slice(TensorValue(first), None), "kept")]
        return self.lm_head(x)
