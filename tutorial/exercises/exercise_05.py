"""Step 05: token embeddings."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import SEQ, SIZES, Arrays, config, random_array, token_ids


class Embeddings(GraphExercise):
    """A lookup of two rows of token ids."""

    number = 5
    title = "token embeddings"
    defines = ("GPT2Embeddings",)
    inputs = {"input_ids": ("batch", "seq")}
    outputs = {"y": ("batch", "seq", "n_embd")}
    hints = (
        "Looking up an embedding involves no arithmetic: it selects a row of a table by its number.",
        "The table has one row per token of the vocabulary and is n_embd wide. Name it `weight`, as checkpoints do.",
        "F.gather selects rows of a table; axis=0 means that the ids are row numbers.",
    )
    mistakes = {
        "next row": "Each id selects the row after its own. Both ids and rows start at 0: add nothing.",
        "row before": "Each id selects the row before its own. Both ids and rows start at 0: subtract nothing.",
        "scaled": "You multiply the vectors by sqrt(n_embd), as the Transformer of 2017 does. GPT-2 uses them unscaled.",
        "positions": "You return rows 0, 1, 2, ... of the table, whatever the ids are. Look up input_ids.",
        "first row": "Every token gets the vector of the first token in its row.",
    }

    def arguments(self) -> Arrays:
        """Return token ids."""
        return {"input_ids": token_ids()}

    def weights(self) -> Arrays:
        """Return the embedding table."""
        return {"weight": random_array(50, ("vocab", "n_embd"))}

    def build(self, step: ModuleType) -> Any:
        """Create the module."""
        return step.GPT2Embeddings(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        ids, table = (reference.as_tensors(arrays) for arrays in (self.arguments(), self.weights()))
        rows = ids["input_ids"]
        if "positions" in wrong:
            rows = reference.torch.arange(SEQ).expand_as(rows)
        if "first row" in wrong:
            rows = rows[:, :1].expand_as(rows)
        rows = (rows + int("next row" in wrong) - int("row before" in wrong)) % SIZES["vocab"]
        found = reference.functional.embedding(rows, table["weight"])
        return reference.as_arrays({"y": found * (math.sqrt(SIZES["n_embd"]) if "scaled" in wrong else 1)})


EXERCISE = Embeddings()
