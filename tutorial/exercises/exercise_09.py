"""Step 09: several heads at once."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import attention_weights, config
from tutorial.sizes import Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor

HEADS = ("batch", "n_head", "seq", "head_dim")


class MultiHead(GraphExercise):
    """The attention, and on their own its two halves that are easy to get wrong."""

    number = 9
    title = "several heads at once"
    defines = ("GPT2MultiHeadAttention",)
    inputs = {"x": ("batch", "seq", "n_embd"), "found": HEADS}
    outputs = {"split_heads(x)": HEADS, "merge_heads(x)": ("batch", "seq", "n_embd"), "y": ("batch", "seq", "n_embd")}
    hints = (
        "Query, key and value go through the same four stations: split, attend, merge, mix.",
        "A reshape alone cannot bring the heads in front of the tokens: first give the heads an axis of their own beside the numbers of each token, then exchange two axes.",
        "To merge, go back in reverse order: exchange the same two axes, then reshape to n_head * head_dim. Both methods take the lengths of batch and seq from x.shape, since they are only names.",
    )
    mistakes = {
        "split": "The width is cut into heads without the transpose: a reshape alone to [batch, n_head, seq, head_dim] mixes "
        "the numbers of several tokens. Reshape to [batch, seq, n_head, head_dim], then exchange the two in the middle.",
        "interleaved": "Each head takes every n_head-th number. A head is a slice of head_dim neighbours: reshape to "
        "[..., n_head, head_dim], not [..., head_dim, n_head].",
        "merge": "The heads are merged without the transpose. Exchange n_head and seq first, then reshape.",
        "merge interleaved": "The merge puts the heads' numbers in turns. Each head's head_dim numbers stay together: exchange "
        "n_head and seq, no other axes.",
        "one head": "This is attention with a single head as wide as the model. Use split_heads and merge_heads.",
        "no c_proj": "This is what the heads found, before c_proj. It mixes them: return self.c_proj(...).",
        "transposed": "c_proj's weight is used transposed: x @ W where it has to be x @ W^T. It is square, so no shape gives "
        "it away. Call self.c_proj(...).",
    }

    def arguments(self) -> Arrays:
        """Return hidden states, and what heads may have found."""
        return {name: numbers(90 + place, dims, 1.5) for place, (name, dims) in enumerate(self.inputs.items())}

    def weights(self) -> Arrays:
        """Return the weights of the two layers."""
        return attention_weights(92)

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.GPT2MultiHeadAttention(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Split, merge and attend."""
        x, found = inputs
        return [built.split_heads(x), built.merge_heads(found), built(x)]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        x, found = reference.as_tensors(self.arguments()).values()
        weights = reference.as_tensors(self.weights())
        results = [
            reference.split_heads(x, wrong),
            reference.merge_heads(found, wrong),
            reference.multi_head(x, weights, wrong),
        ]
        return reference.as_arrays(dict(zip(self.outputs, results, strict=True)))


EXERCISE = MultiHead()
