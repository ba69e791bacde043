"""Step 12: the transformer stack."""

from max.experimental.nn import Module, Sequential, as_subgraph
from max.experimental.tensor import Tensor

from solutions.solution_01 import GPT2Config
from solutions.solution_03 import LayerNorm
from solutions.solution_05 import GPT2Embeddings
from solutions.solution_06 import GPT2PositionEmbeddings
from solutions.solution_11 import GPT2Block


class GPT2Model(Module[[Tensor], Tensor]):
    """Embed the tokens and their positions, apply `n_layer` blocks, and normalize the result.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the submodules, named as in checkpoints."""
        self.wte = GPT2Embeddings(config)
        self.wpe = GPT2PositionEmbeddings(config)
        self.h = Sequential(*(GPT2Block(config) for _ in range(config.n_layer)))
        self.ln_f = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states: [batch, seq] of int64 -> [batch, seq, n_embd]."""
        _, seq = input_ids.shape
        x = self.wte(input_ids) + self.wpe(seq)  # [batch, seq, n_embd] + [seq, n_embd]
        for block in self.h:
            x = as_subgraph(block, name="block")(x)  # compile one block for all layers
        return self.ln_f(x)
