"""Step 12: the transformer stack."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import EPSILON, Arrays, config, token_ids, transformer_weights


class Stack(GraphExercise):
    """Three blocks with different weights."""

    number = 12
    title = "the transformer stack"
    defines = ("GPT2Model",)
    inputs = {"input_ids": ("batch", "seq")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    tolerance = 2e-4
    hints = (
        "Embeddings, blocks, a final LayerNorm: forward is a for loop with a line before it and a line after it.",
        "The token vectors are [batch, seq, n_embd], the position vectors [seq, n_embd]. Broadcasting takes care of the sum.",
        "Sequential takes the blocks as separate arguments and can be iterated. as_subgraph(block, name=...) wraps a block so that MAX compiles a single one for all layers; without it the result is the same, but compilation takes longer.",
    )
    mistakes = {
        "no positions": "The position embeddings are missing, so the model cannot tell the order of the tokens. Add self.wpe(seq).",
        "from 1": "Your positions start at 1. The first token has position 0.",
        "no blocks": "The blocks are missing: you return the normalized sum of the embeddings.",
        "one block": "Only the first of the three blocks is applied. Pass the output of each block to the next.",
        "one less": "The last block is missing.",
        "same block": "You apply the first block every time. Each layer has a block of its own.",
        "reversed": "You apply the blocks in reverse order. h.0 comes first.",
        "no ln_f": "The final LayerNorm, ln_f, is missing.",
        "ln_f in the loop": "You apply ln_f after every block. Apply it once, after the last one.",
        "epsilon": f"ln_f uses eps = 1e-5; the config of this check has {EPSILON}. Pass config.layer_norm_epsilon to it.",
    }

    def arguments(self) -> Arrays:
        """Return token ids."""
        return {"input_ids": token_ids()}

    def weights(self) -> Arrays:
        """Return the parameters of the stack."""
        return transformer_weights(120)

    def build(self, step: ModuleType) -> Any:
        """Create the module."""
        return step.GPT2Model(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        ids = reference.as_tensors(self.arguments())["input_ids"]
        return reference.as_arrays({"y": reference.transformer(ids, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Stack()
