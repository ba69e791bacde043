"""Step 08: attention."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import Arrays, random_array

HEADS = ("batch", "n_head", "seq", "head_dim")


class Attention(GraphExercise):
    """Attention with batch and head axes in front of the last two."""

    number = 8
    title = "attention"
    defines = ("compute_attention",)
    inputs = dict.fromkeys(("query", "key", "value"), HEADS)
    outputs = {"y": HEADS}
    hints = (
        "Four lines: scores, scale and mask, softmax, weighted sum. The formula in the docstring has the same order.",
        "The scores compare every query with every key: a matrix product with the last two axes of key swapped. Their shape is [..., seq, seq].",
        "The scale is the square root of the width of a head, query.shape[-1]. Add the mask of step 2 before the softmax, which runs over the last axis.",
    )
    mistakes = {
        "no mask": "The mask is missing: tokens attend to the future. Add causal_mask(seq) to the scores.",
        "subtracted": "You subtract the mask, which turns -inf into +inf and the result into NaN. Add it.",
        "self hidden": "The mask is off by one: no token can attend to itself, and the first one has nothing left to attend to, which gives NaN.",
        "mask late": "You add the mask to the weights, after the softmax. Add it to the scores before the softmax, which turns -inf into 0.",
        "no scale": "The scale is missing. Divide the scores by sqrt(head_dim).",
        "head_dim": "You divide the scores by head_dim. Divide by its square root.",
        "multiplied": "You multiply the scores by sqrt(head_dim). Divide by it.",
        "seq": "You divide the scores by sqrt(seq). The scale depends on the width of a head: sqrt(head_dim).",
        "axis": "Your softmax runs over the queries. It has to run over the keys, the last axis, so that the weights of each query sum to 1.",
        "swapped": "Your scores are transposed: key query^T instead of query key^T. Rows are queries, columns are keys.",
        "no softmax": "The softmax is missing: the scores themselves weight the values.",
    }

    def arguments(self) -> Arrays:
        """Return queries, keys and values."""
        return {name: random_array(80 + index, HEADS, 1.5) for index, name in enumerate(self.inputs)}

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return [step.compute_attention(*inputs)]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        query, key, value = reference.as_tensors(self.arguments()).values()
        return reference.as_arrays({"y": reference.attention(query, key, value, wrong)})


EXERCISE = Attention()
