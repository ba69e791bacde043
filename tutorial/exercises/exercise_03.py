"""Step 03: layer normalization."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import EPSILON, SIZES, Arrays, norm_weights, random_array


class Norm(GraphExercise):
    """A LayerNorm with a weight other than 1, a bias other than 0, and an unusual eps."""

    number = 3
    title = "layer normalization"
    defines = ("LayerNorm",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    hints = (
        "MAX has this formula as a single operation. Look for its name in `max.experimental.functional`.",
        "Create two parameters in __init__, one filled with ones and one with zeros, and store eps.",
        "F.layer_norm calls its arguments gamma (the scale), beta (the shift) and epsilon.",
    )
    mistakes = {
        "mean": "You do not subtract the mean.",
        "unbiased": "You divide the sum of squares by n - 1. LayerNorm uses the biased variance: divide by n.",
        "axis": "You normalize over the tokens. Normalize each token on its own, over the last axis.",
        "square root": "You divide by the variance. Divide by its square root.",
        "weight": "The learned scale is missing. Multiply by self.weight.",
        "bias": "The learned shift is missing. Add self.bias.",
        "epsilon": f"You always use eps = 1e-5; this check passes {EPSILON}. Use self.eps.",
        "epsilon outside": "You add eps after the square root. It belongs inside: sqrt(var + eps).",
    }

    def arguments(self) -> Arrays:
        """Return hidden states with a mean other than 0 and a standard deviation other than 1."""
        return {"x": random_array(3, self.inputs["x"], 0.4, 0.3)}

    def weights(self) -> Arrays:
        """Return the scale and the shift."""
        return norm_weights(30)

    def build(self, step: ModuleType) -> Any:
        """Create the module."""
        return step.LayerNorm(SIZES["n_embd"], eps=EPSILON)

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        return reference.as_arrays({"y": reference.layer_norm(x, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Norm()
