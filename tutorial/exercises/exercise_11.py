"""Step 11: the transformer block."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import EPSILON, Arrays, block_weights, config, random_array


class Block(GraphExercise):
    """One block with random parameters."""

    number = 11
    title = "the transformer block"
    defines = ("GPT2Block",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    hints = (
        "Four submodules with these names: ln_1 and attn, ln_2 and mlp.",
        "Each layer together with its norm is a ResidualBlock of step 10. The second one reads the result of the first.",
        "Pass the config's layer_norm_epsilon to both norms, and n_inner to the MLP. A ResidualBlock can be created in forward: it has no weights of its own.",
    )
    mistakes = {
        "norms swapped": "You swapped ln_1 and ln_2. ln_1 belongs to the attention, ln_2 to the MLP.",
        "ln_1 twice": "The MLP uses ln_1. It has a norm of its own, ln_2.",
        "mlp first": "The MLP comes first. Attention exchanges information between the tokens before the MLP processes each of them.",
        "parallel": "Attention and MLP both read the input of the block. The MLP has to read the result of the attention's residual connection.",
        "no mlp": "The MLP is missing.",
        "no attention": "The attention is missing.",
        "no residual mlp": "The residual connection around the MLP is missing. Use a ResidualBlock for it too.",
        "no residual attention": "The residual connection around the attention is missing. Use a ResidualBlock for it.",
        "post-norm": "This is post-norm: you normalize the sums. GPT-2 normalizes the input of each layer.",
        "no norms": "Both LayerNorms are missing.",
        "epsilon": f"The LayerNorms use eps = 1e-5; the config of this check has {EPSILON}. Pass config.layer_norm_epsilon to both.",
    }

    def arguments(self) -> Arrays:
        """Return hidden states with a variance so small that eps matters."""
        return {"x": random_array(110, self.inputs["x"], 0.4)}

    def weights(self) -> Arrays:
        """Return the parameters of the block."""
        return block_weights(111)

    def build(self, step: ModuleType) -> Any:
        """Create the module."""
        return step.GPT2Block(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        x = reference.as_tensors(self.arguments())["x"]
        return reference.as_arrays({"y": reference.block(x, reference.as_tensors(self.weights()), wrong)})


EXERCISE = Block()
