"""Step 12: the whole stack."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import config, transformer_weights
from tutorial.sizes import EPSILON, Arrays, token_ids

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Stack(GraphExercise):
    """Three blocks, all different."""

    number = 12
    title = "the whole stack"
    defines = ("GPT2Model",)
    inputs = {"input_ids": ("batch", "seq")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    tolerance = 2e-4
    hints = (
        "Embeddings, blocks, one last normalization: the forward is a for loop with a line before and a line after.",
        "The token vectors are [batch, seq, n_embd], the position vectors [seq, n_embd]. Adding them does the rest by itself.",
        "Sequential takes the blocks as arguments, and can be looped over. as_subgraph(block, name=...) wraps a block so that MAX compiles one for all; without it the result is the same and the compiler works longer.",
    )
    mistakes = {
        "no positions": "This is the model without its position embeddings: it cannot tell the order of the tokens. Add "
        "self.wpe(seq).",
        "from 1": "The positions are counted from 1. The first token has position 0.",
        "no blocks": "The blocks are left out: this is the normalized sum of the embeddings.",
        "one block": "Only the first of the three blocks is applied. What a block returns goes into the next.",
        "one less": "The last block is left out.",
        "same block": "The first block is applied each time. Each layer has a block of its own.",
        "reversed": "The blocks are applied in reverse order. h.0 comes first.",
        "no ln_f": "The last normalization, ln_f, is forgotten.",
        "ln_f in the loop": "ln_f is applied after every block. It comes once, after the last one.",
        "epsilon": f"ln_f uses eps = 1e-5 whatever the config says; here it says {EPSILON}. Hand config.layer_norm_epsilon on.",
    }

    def arguments(self) -> Arrays:
        """Return ids."""
        return {"input_ids": token_ids()}

    def weights(self) -> Arrays:
        """Return the weights of the model."""
        return transformer_weights(120)

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.GPT2Model(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        ids = reference.as_tensors(self.arguments())["input_ids"]
        return reference.as_arrays({"y": reference.transformer(ids, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Stack()
