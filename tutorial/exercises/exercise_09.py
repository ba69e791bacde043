"""Step 09: multi-head attention."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import Arrays, attention_weights, config, random_array

HEADS = ("batch", "n_head", "seq", "head_dim")


class MultiHead(GraphExercise):
    """The whole attention, and separately the two reshapes that are easy to get wrong."""

    number = 9
    title = "multi-head attention"
    defines = ("GPT2MultiHeadAttention",)
    inputs = {"x": ("batch", "seq", "n_embd"), "heads": HEADS}
    outputs = {"split_heads(x)": HEADS, "merge_heads(x)": ("batch", "seq", "n_embd"), "y": ("batch", "seq", "n_embd")}
    hints = (
        "Query, key and value go through the same four stages: split, attend, merge, project.",
        "A reshape alone cannot move the head axis in front of the token axis. First give the heads an axis of their own next to the numbers of each token, then swap two axes.",
        "To merge, do the reverse: swap the same two axes, then reshape to n_head * head_dim. Both methods take batch and seq from x.shape, because they are symbolic.",
    )
    mistakes = {
        "split": "You split the heads without a transpose. A reshape straight to [batch, n_head, seq, head_dim] mixes numbers of different tokens. Reshape to [batch, seq, n_head, head_dim], then swap the two middle axes.",
        "interleaved": "Each head takes every n_head-th number. A head is a slice of head_dim consecutive numbers: reshape to [..., n_head, head_dim], not [..., head_dim, n_head].",
        "merge": "You merge the heads without a transpose. Swap n_head and seq first, then reshape.",
        "merge interleaved": "Your merge interleaves the heads. The head_dim numbers of a head stay together: swap n_head and seq, no other axes.",
        "one head": "You use a single head of width n_embd. Use split_heads and merge_heads.",
        "no c_proj": "You return the merged heads without c_proj, which mixes them. Return self.c_proj(...).",
        "transposed": "You use c_proj's weight transposed: x @ W where it should be x @ W^T. The weight is square, so its shape does not reveal this. Call self.c_proj(...).",
    }

    def arguments(self) -> Arrays:
        """Return hidden states and the output of the heads."""
        return {name: random_array(90 + index, dims, 1.5) for index, (name, dims) in enumerate(self.inputs.items())}

    def weights(self) -> Arrays:
        """Return the parameters of the two layers."""
        return attention_weights(92)

    def build(self, step: ModuleType) -> Any:
        """Create the module."""
        return step.GPT2MultiHeadAttention(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply the two reshapes and the whole attention."""
        x, heads = inputs
        return [built.split_heads(x), built.merge_heads(heads), built(x)]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        x, heads = reference.as_tensors(self.arguments()).values()
        weights = reference.as_tensors(self.weights())
        results = [
            reference.split_heads(x, wrong),
            reference.merge_heads(heads, wrong),
            reference.multi_head(x, weights, wrong),
        ]
        return reference.as_arrays(dict(zip(self.outputs, results, strict=True)))


EXERCISE = MultiHead()
