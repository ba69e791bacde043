"""Step 10: the residual connection."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import linear_weights, norm_weights, prefixed
from tutorial.sizes import EPSILON, SIZES, Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Residual(GraphExercise):
    """The sum, and a block around a plain Linear."""

    number = 10
    title = "the residual connection"
    defines = ("apply_residual_connection", "ResidualBlock")
    inputs = dict.fromkeys(("x", "change"), ("batch", "seq", "n_embd"))
    outputs = dict.fromkeys(("apply_residual_connection(x, change)", "ResidualBlock(x)"), ("batch", "seq", "n_embd"))
    hints = (
        "The layer says what to change, not what the result is.",
        "The norm stands before the layer and inside the branch. What flows past it is never normalized.",
        "The block calls the norm on x, hands that to the layer, and lets apply_residual_connection put both together.",
    )
    mistakes = {
        "change only": "The residual is forgotten: the change comes back alone. Return x + change.",
        "x only": "The change is forgotten: x comes back as it was. Return x + change.",
        "minus": "The change is subtracted. Add it.",
        "x twice": "x is added twice. Once is enough: x + change.",
        "no residual": "The block returns layer(norm(x)) and leaves out the residual. Add x with apply_residual_connection.",
        "post-norm": "This is post-norm, as in the Transformer of 2017: norm(x + layer(x)). GPT-2 normalizes what the layer "
        "reads: x + layer(norm(x)).",
        "no norm": "The layer reads x as it is: x + layer(x). Give it norm(x).",
        "normalized stream": "The stream itself is normalized: norm(x) + layer(norm(x)). Only what the layer reads is: "
        "x + layer(norm(x)).",
        "no layer": "The layer is left out: x + norm(x). It reads what the norm gives: x + layer(norm(x)).",
        "norm after": "The norm comes after the layer: x + norm(layer(x)). It comes before: x + layer(norm(x)).",
    }

    def arguments(self) -> Arrays:
        """Return hidden states and a change to them."""
        return {name: numbers(100 + place, dims, 1.5, 0.4) for place, (name, dims) in enumerate(self.inputs.items())}

    def weights(self) -> Arrays:
        """Return the weights of the norm and of the layer."""
        return prefixed("norm.", norm_weights(102)) | prefixed("layer.", linear_weights(104, "n_embd", "n_embd"))

    def build(self, step: ModuleType) -> Any:
        """Make a block around a Linear."""
        from max.experimental.nn import Linear

        norm = importlib.import_module("steps.step_03").LayerNorm(SIZES["n_embd"], eps=EPSILON)
        return step.ResidualBlock(norm, Linear(SIZES["n_embd"], SIZES["n_embd"], bias=True))

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Add, and apply the block."""
        x, change = inputs
        return [step.apply_residual_connection(x, change), built(x)]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        x, change = reference.as_tensors(self.arguments()).values()
        weights = reference.as_tensors(self.weights())

        def norm(x: reference.torch.Tensor) -> reference.torch.Tensor:
            return reference.layer_norm(x, reference.part(weights, "norm."))

        def layer(x: reference.torch.Tensor) -> reference.torch.Tensor:
            return reference.linear(x, weights, "layer")

        def add(x: reference.torch.Tensor, change: reference.torch.Tensor) -> reference.torch.Tensor:
            if "change only" in wrong:
                return change
            if "x only" in wrong:
                return x
            return x - change if "minus" in wrong else 2 * x + change if "x twice" in wrong else x + change

        if "no residual" in wrong:
            block = layer(norm(x))
        elif "post-norm" in wrong:
            block = norm(add(x, layer(x)))
        elif "normalized stream" in wrong:
            block = add(norm(x), layer(norm(x)))
        elif "norm after" in wrong:
            block = add(x, norm(layer(x)))
        else:
            read = x if "no norm" in wrong else norm(x)
            block = add(x, read if "no layer" in wrong else layer(read))
        return reference.as_arrays(dict(zip(self.outputs, (add(x, change), block), strict=True)))


EXERCISE = Residual()
