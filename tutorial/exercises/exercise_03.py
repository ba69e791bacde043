"""Step 03: layer normalization."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import norm_weights
from tutorial.sizes import EPSILON, SIZES, Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Norm(GraphExercise):
    """A LayerNorm whose weight is not 1, whose bias is not 0, and whose eps is not the usual one."""

    number = 3
    title = "layer normalization"
    defines = ("LayerNorm",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    hints = (
        "MAX has this formula as one operation. Look for its name among `max.experimental.functional`.",
        "Make two parameters in __init__, a row of ones and a row of zeros, and remember eps.",
        "F.layer_norm calls them gamma (the scale), beta (the shift) and epsilon.",
    )
    mistakes = {
        "mean": "This is what comes out when the mean is not subtracted.",
        "unbiased": "This is LayerNorm with the variance divided by n - 1. It is the biased one that is wanted: divided by n.",
        "axis": "This is normalized over the tokens. Each token has to be normalized by itself, over the last axis.",
        "square root": "This is divided by the variance itself. Take its square root first.",
        "weight": "This is LayerNorm without the learned scale. Multiply by self.weight.",
        "bias": "This is LayerNorm without the learned shift. Add self.bias.",
        "epsilon": f"This is LayerNorm with eps = 1e-5 whatever was asked for; here it was {EPSILON}. Use self.eps.",
        "epsilon outside": "The eps is added to the square root. It belongs under it: sqrt(var + eps).",
    }

    def arguments(self) -> Arrays:
        """Return hidden states whose mean is not 0 and whose scale is not 1."""
        return {"x": numbers(3, self.inputs["x"], 0.4, 0.3)}

    def weights(self) -> Arrays:
        """Return a scale and a shift."""
        return norm_weights(30)

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.LayerNorm(SIZES["n_embd"], eps=EPSILON)

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Normalize."""
        return [built(inputs[0])]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        return reference.as_arrays({"y": reference.layer_norm(x, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Norm()
