"""Step 04: the MLP."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import config, mlp_weights
from tutorial.sizes import SIZES, Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Mlp(GraphExercise):
    """An MLP whose hidden layer is not four times as wide."""

    number = 4
    title = "the MLP"
    defines = ("GPT2MLP",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    tolerance = 2e-5
    hints = (
        "Two Linear layers with a bend between them. The first makes the vector wider, the second brings it back.",
        "Linear takes the width that comes in, then the width that goes out. Both layers have a bias.",
        "F.gelu has several forms and asks for one by the name in `approximate`. GPT-2 was trained with the one that uses tanh.",
    )
    mistakes = {
        "erf": "This is GELU's exact form, with erf. GPT-2 was trained with the tanh form; the difference is small, and "
        'every layer adds to it. Ask for approximate="tanh".',
        "relu": "This is the MLP with ReLU. GPT-2 uses GELU.",
        "sigmoid": 'This is GELU\'s quick form, x * sigmoid(1.702 x). GPT-2 uses the tanh form: approximate="tanh".',
        "silu": "This is the MLP with SiLU, x * sigmoid(x). GPT-2 uses GELU.",
        "no activation": "This is the MLP without GELU: two layers in a row, which are no better than one.",
        "gelu last": "GELU comes after c_proj here. It belongs between the two layers.",
        "gelu twice": "GELU is applied twice here, after c_fc and after c_proj. Only the first is right.",
    }

    def arguments(self) -> Arrays:
        """Return hidden states."""
        return {"x": numbers(4, self.inputs["x"])}

    def weights(self) -> Arrays:
        """Return the weights of the two layers, as Linear keeps them: [out, in]."""
        return mlp_weights(40)

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.GPT2MLP(SIZES["n_inner"], config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        return reference.as_arrays({"y": reference.mlp(x, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Mlp()
