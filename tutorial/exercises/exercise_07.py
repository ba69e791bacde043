"""Step 07: query, key and value."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes, require_tuple
from tutorial.inputs import Arrays, config, linear_weights, prefixed, random_array

ORDER = "The output of the layer holds query, key, value, in this order."


class Qkv(GraphExercise):
    """The three projections, each compared on its own."""

    number = 7
    title = "query, key and value"
    defines = ("GPT2SingleHeadQKV",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = dict.fromkeys(("query", "key", "value"), ("batch", "seq", "n_embd"))
    hints = (
        "One layer computes all three at once. How wide is its output?",
        "The output holds query, key and value side by side along the last axis. Split it there.",
        "F.split takes the sizes of the parts, in order, and the axis.",
    )
    mistakes = {
        "kqv": f"You swapped query and key. {ORDER}",
        "vkq": f"You swapped query and value. {ORDER}",
        "qvk": f"You swapped key and value. {ORDER}",
        "kvq": f"All three are out of order: you return key, value, query. {ORDER}",
        "vqk": f"All three are out of order: you return value, query, key. {ORDER}",
        "every third": "You take every third number for each part. The parts are contiguous: first n_embd numbers of query, then n_embd of key, then n_embd of value.",
        "by heads": "You split each head into query, key and value. In GPT-2, all of query comes first, then all of key, then all of value; the heads are split later, in step 9.",
        "all the same": "Query, key and value are identical: you return the first part three times.",
        "no bias": "The bias of c_attn is missing.",
    }

    def arguments(self) -> Arrays:
        """Return hidden states."""
        return {"x": random_array(7, self.inputs["x"])}

    def weights(self) -> Arrays:
        """Return the parameters of the layer; its weight is [out, in], as in Linear."""
        return prefixed("c_attn.", linear_weights(70, "3 * n_embd", "n_embd"))

    def build(self, step: ModuleType) -> Any:
        """Create the module."""
        return step.GPT2SingleHeadQKV(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return require_tuple(built(inputs[0]), ("query", "key", "value"))

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        parts = reference.qkv(x, reference.as_tensors(self.weights()), wrong)
        return reference.as_arrays(dict(zip(self.outputs, parts, strict=True)))


EXERCISE = Qkv()
