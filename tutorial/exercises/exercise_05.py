"""Step 05: token embeddings."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import config
from tutorial.sizes import SEQ, SIZES, Arrays, numbers, token_ids

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Embeddings(GraphExercise):
    """A look-up of two rows of ids."""

    number = 5
    title = "token embeddings"
    defines = ("GPT2Embeddings",)
    inputs = {"input_ids": ("batch", "seq")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    hints = (
        "An embedding is no computation: it is a row of a table, found by its number.",
        "The table has one row for each token of the vocabulary, and is as wide as the model. Name it `weight`, as checkpoints do.",
        "F.gather takes rows out of a table; axis=0 says that the ids count rows.",
    )
    mistakes = {
        "next row": "Every id finds the row after its own. The ids start at 0, as the rows do: add nothing.",
        "row before": "Every id finds the row before its own. The ids start at 0, as the rows do: subtract nothing.",
        "scaled": "The vectors are multiplied by sqrt(n_embd), as in the Transformer of 2017. GPT-2 takes them as they are.",
        "places": "These are the rows 0, 1, 2, ... of the table, whatever the ids are. Look input_ids up.",
        "first row": "Every token finds the vector of the first one in its row.",
    }

    def arguments(self) -> Arrays:
        """Return ids."""
        return {"input_ids": token_ids()}

    def weights(self) -> Arrays:
        """Return the table."""
        return {"weight": numbers(50, ("vocab", "n_embd"))}

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.GPT2Embeddings(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Look up."""
        return [built(inputs[0])]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch looks up."""
        from tutorial import reference

        ids, table = (reference.as_tensors(one) for one in (self.arguments(), self.weights()))
        rows = ids["input_ids"]
        if "places" in wrong:
            rows = reference.torch.arange(SEQ).expand_as(rows)
        if "first row" in wrong:
            rows = rows[:, :1].expand_as(rows)
        rows = (rows + int("next row" in wrong) - int("row before" in wrong)) % SIZES["vocab"]
        found = reference.functional.embedding(rows, table["weight"])
        return reference.as_arrays({"y": found * (math.sqrt(SIZES["n_embd"]) if "scaled" in wrong else 1)})


EXERCISE = Embeddings()
