"""Step 08: attention."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.sizes import Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor

HEADS = ("batch", "n_head", "seq", "head_dim")


class Attention(GraphExercise):
    """Attention of several heads at once: the axes in front of the last two are left alone."""

    number = 8
    title = "attention"
    defines = ("compute_attention",)
    inputs = dict.fromkeys(("query", "key", "value"), HEADS)
    outputs = {"y": HEADS}
    hints = (
        "Four lines: scores, scale and mask, softmax, weighted sum. The formula in the docstring is in this order.",
        "Scores compare every query with every key: a matrix product with the last two axes of key exchanged. They are [..., seq, seq].",
        "The scale is the width of one head, query.shape[-1], under a square root. The mask of step 2 is added before the softmax, which runs over the last axis.",
    )
    mistakes = {
        "no mask": "This is what attention without the mask gives: the tokens see the future. Add causal_mask(seq).",
        "subtracted": "This is attention with the mask's sign wrong: it is subtracted, and -inf becomes +inf, which ends "
        "as NaN. Add it.",
        "self hidden": "This is attention with a mask that is off by one: no token may look at itself, and the first one "
        "has nothing left to look at, which ends as NaN.",
        "mask late": "The mask is added after the softmax here, to the weights. It belongs to the scores, before the softmax, "
        "which turns -inf into 0.",
        "no scale": "This is attention without the scale. Divide the scores by sqrt(head_dim).",
        "head_dim": "This is attention with the scores divided by head_dim. It is its square root that is wanted.",
        "multiplied": "This is attention with the scores multiplied by sqrt(head_dim). Divide by it.",
        "seq": "The scores are divided by sqrt(seq) here. The scale is the width of a head: sqrt(head_dim).",
        "axis": "The softmax runs over the wrong axis, the queries. It runs over the keys, the last axis: what one query "
        "gives to all keys sums to 1.",
        "swapped": "The scores are transposed: key query^T for query key^T. Rows are queries, columns are keys.",
        "no softmax": "This is attention without the softmax: the scores themselves weigh the values.",
    }

    def arguments(self) -> Arrays:
        """Return queries, keys and values."""
        return {name: numbers(80 + place, HEADS, 1.5) for place, name in enumerate(self.inputs)}

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Attend."""
        return [step.compute_attention(*inputs)]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        query, key, value = reference.as_tensors(self.arguments()).values()
        return reference.as_arrays({"y": reference.attention(query, key, value, wrong)})


EXERCISE = Attention()
