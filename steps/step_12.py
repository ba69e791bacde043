"""Step 12: the transformer stack."""

from max.experimental.nn import Module, Sequential, as_subgraph
from max.experimental.tensor import Tensor

from steps.step_01 import GPT2Config
from steps.step_03 import LayerNorm
from steps.step_05 import GPT2Embeddings
from steps.step_06 import GPT2PositionEmbeddings
from steps.step_11 import GPT2Block


class GPT2Model(Module[[Tensor], Tensor]):
    """Embed the tokens and their positions, apply `n_layer` blocks, and normalize the result.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    """

    def __init__(self, config: GPT2Config) -> None:
        """Create the submodules, named as in checkpoints."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2Model.__init__")

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states: [batch, seq] of int64 -> [batch, seq, n_embd]."""
        # TODO: replace the line below.
        raise NotImplementedError("GPT2Model.forward")
