"""Step 04: the MLP."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import SIZES, Arrays, config, mlp_weights, random_array


class Mlp(GraphExercise):
    """An MLP with a hidden layer that is not four times as wide."""

    number = 4
    title = "the MLP"
    defines = ("GPT2MLP",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    tolerance = 2e-5
    hints = (
        "Two Linear layers with a nonlinearity between them. The first one widens the vector, the second one restores its width.",
        "Linear takes the input width, then the output width. Both layers have a bias.",
        "F.gelu implements several forms, selected by `approximate`. GPT-2 was trained with the one that uses tanh.",
    )
    mistakes = {
        "erf": 'You use the exact form of GELU, with erf. GPT-2 was trained with the tanh form; the difference is small, but every layer adds to it. Pass approximate="tanh".',
        "relu": "You use ReLU. GPT-2 uses GELU.",
        "sigmoid": 'You use the quick form of GELU, x * sigmoid(1.702 x). GPT-2 uses the tanh form: approximate="tanh".',
        "silu": "You use SiLU, x * sigmoid(x). GPT-2 uses GELU.",
        "no activation": "GELU is missing. Without it, the two layers are equivalent to a single one.",
        "gelu last": "You apply GELU after c_proj. It belongs between the two layers.",
        "gelu twice": "You apply GELU twice, after c_fc and after c_proj. Only the first one is right.",
    }

    def arguments(self) -> Arrays:
        """Return hidden states."""
        return {"x": random_array(4, self.inputs["x"])}

    def weights(self) -> Arrays:
        """Return the parameters of the two layers; weights are [out, in], as in Linear."""
        return mlp_weights(40)

    def build(self, step: ModuleType) -> Any:
        """Create the module; the width is the argument, not the n_inner of the config."""
        return step.GPT2MLP(SIZES["n_inner"], config(n_inner=SIZES["3 * n_embd"]))

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        return reference.as_arrays({"y": reference.mlp(x, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Mlp()
