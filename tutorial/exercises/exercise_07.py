"""Step 07: query, key and value."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import config, linear_weights, prefixed
from tutorial.sizes import Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor

ORDER = "The layer's output holds query, key, value, in this order."


class Qkv(GraphExercise):
    """The three parts, each on its own."""

    number = 7
    title = "query, key and value"
    defines = ("GPT2SingleHeadQKV",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = dict.fromkeys(("query", "key", "value"), ("batch", "seq", "n_embd"))
    hints = (
        "One layer makes all three at once: what is its width at the end?",
        "The result holds query, key and value side by side along the last axis. Cut it there.",
        "F.split takes the sizes of the parts, in order, and the axis.",
    )
    mistakes = {
        "kqv": f"Query and key have changed places. {ORDER}",
        "vkq": f"Query and value have changed places. {ORDER}",
        "qvk": f"Key and value have changed places. {ORDER}",
        "kvq": f"All three are in the wrong place: you return key, value, query. {ORDER}",
        "vqk": f"All three are in the wrong place: you return value, query, key. {ORDER}",
        "every third": "You take every third number for each part. They lie side by side: first n_embd numbers of query, "
        "then n_embd of key, then n_embd of value.",
        "by heads": "You cut each head into query, key and value. In GPT-2 all of query comes first, then all of key, then "
        "all of value; the heads come later, in step 9.",
        "all the same": "Query, key and value are the same here: each of them is the first part. Take one part each.",
        "no bias": "This is what comes out without the bias of c_attn.",
    }

    def arguments(self) -> Arrays:
        """Return hidden states."""
        return {"x": numbers(7, self.inputs["x"])}

    def weights(self) -> Arrays:
        """Return the weights of the layer, as Linear keeps them: [out, in]."""
        return prefixed("c_attn.", linear_weights(70, "3 * n_embd", "n_embd"))

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.GPT2SingleHeadQKV(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Make the three."""
        from tutorial.returned import several

        return several(built(inputs[0]), ("query", "key", "value"))

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        parts = reference.qkv(x, reference.as_tensors(self.weights()), wrong)
        return reference.as_arrays(dict(zip(self.outputs, parts, strict=True)))


EXERCISE = Qkv()
