"""Step 11: the transformer block."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import block_weights, config
from tutorial.sizes import EPSILON, Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Block(GraphExercise):
    """One block, all of its parameters random."""

    number = 11
    title = "the transformer block"
    defines = ("GPT2Block",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    hints = (
        "Four parts and their names: ln_1 and attn, ln_2 and mlp.",
        "Each layer with its norm is a ResidualBlock of step 10. The first one's result is what the second one reads.",
        "Hand layer_norm_epsilon of the config to both norms, and n_inner to the MLP. A ResidualBlock can be made in forward: it has no weights of its own.",
    )
    mistakes = {
        "norms swapped": "ln_1 and ln_2 have changed places. ln_1 is the attention's, ln_2 the MLP's.",
        "ln_1 twice": "The MLP reads through ln_1 here. It has a normalization of its own, ln_2.",
        "mlp first": "The MLP comes first here. The tokens exchange what they know (attention) before each thinks about it.",
        "parallel": "Attention and MLP both read the block's input here. The MLP reads what the attention has added to.",
        "no mlp": "This is the block without its MLP.",
        "no attention": "This is the block without its attention.",
        "no residual mlp": "The residual around the MLP is forgotten. Use a ResidualBlock for it, too.",
        "no residual attention": "The residual around the attention is forgotten. Use a ResidualBlock for it.",
        "post-norm": "This is post-norm: the sums are normalized. GPT-2 normalizes what each layer reads.",
        "no norms": "This is the block without its normalizations.",
        "epsilon": "The LayerNorms use eps = 1e-5 whatever the config says; here it says "
        f"{EPSILON}. Hand config.layer_norm_epsilon on.",
    }

    def arguments(self) -> Arrays:
        """Return hidden states whose variance is small enough for eps to count."""
        return {"x": numbers(110, self.inputs["x"], 0.4)}

    def weights(self) -> Arrays:
        """Return the weights of the four parts."""
        return block_weights(111)

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.GPT2Block(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        return reference.as_arrays({"y": reference.block(x, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Block()
