"""Step 10: the residual connection."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import EPSILON, SIZES, Arrays, linear_weights, norm_weights, prefixed, random_array


class Residual(GraphExercise):
    """The sum, and a block around a Linear."""

    number = 10
    title = "the residual connection"
    defines = ("apply_residual_connection", "ResidualBlock")
    inputs = dict.fromkeys(("x", "change"), ("batch", "seq", "n_embd"))
    outputs = dict.fromkeys(("apply_residual_connection(x, change)", "ResidualBlock(x)"), ("batch", "seq", "n_embd"))
    hints = (
        "A layer returns a change to its input, not a replacement for it.",
        "The norm comes before the layer, inside the branch. The stream that bypasses the layer is never normalized.",
        "The block applies the norm to x, passes the result to the layer, and adds the output to x with apply_residual_connection.",
    )
    mistakes = {
        "change only": "You return only the change; the residual is missing. Return x + change.",
        "x only": "You return x unchanged. Return x + change.",
        "minus": "You subtract the change. Add it.",
        "x twice": "You add x twice. Return x + change.",
        "no residual": "The block returns layer(norm(x)) without the residual. Add x with apply_residual_connection.",
        "post-norm": "This is post-norm, as in the Transformer of 2017: norm(x + layer(x)). GPT-2 normalizes the input of the layer: x + layer(norm(x)).",
        "no norm": "The layer reads x without normalization: x + layer(x). Pass it norm(x).",
        "normalized stream": "You normalize the stream itself: norm(x) + layer(norm(x)). Only normalize the input of the layer: x + layer(norm(x)).",
        "no layer": "The layer is missing: x + norm(x). It reads the output of the norm: x + layer(norm(x)).",
        "norm after": "The norm comes after the layer: x + norm(layer(x)). It should come before: x + layer(norm(x)).",
    }

    def arguments(self) -> Arrays:
        """Return hidden states and a change to them."""
        return {
            name: random_array(100 + index, dims, 1.5, 0.4) for index, (name, dims) in enumerate(self.inputs.items())
        }

    def weights(self) -> Arrays:
        """Return the parameters of the norm and of the layer."""
        return prefixed("norm.", norm_weights(102)) | prefixed("layer.", linear_weights(104, "n_embd", "n_embd"))

    def build(self, step: ModuleType) -> Any:
        """Create a block around a Linear."""
        from max.experimental.nn import Linear

        norm = importlib.import_module("steps.step_03").LayerNorm(SIZES["n_embd"], eps=EPSILON)
        return step.ResidualBlock(norm, Linear(SIZES["n_embd"], SIZES["n_embd"], bias=True))

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply the function and the block."""
        x, change = inputs
        return [step.apply_residual_connection(x, change), built(x)]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        x, change = reference.as_tensors(self.arguments()).values()
        weights = reference.as_tensors(self.weights())

        def norm(x: reference.torch.Tensor) -> reference.torch.Tensor:
            return reference.layer_norm(x, reference.submodule(weights, "norm."))

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
