"""Step 06: position embeddings."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import SEQ, SIZES, Arrays, config, random_array


class Positions(GraphExercise):
    """The first 7 of 19 positions."""

    number = 6
    title = "position embeddings"
    defines = ("GPT2PositionEmbeddings",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("seq", "n_embd")}
    hints = (
        "This is step 5 again, but the ids are not given: they are 0, 1, 2, ... up to the length of the sequence.",
        "F.range counts. The length may be symbolic, so pass the length of the result as well: out_dim=seq.",
        "Where an operation expects a tensor and seq is a dimension, convert it with Tensor.from_dim(seq). Positions are DType.int64.",
    )
    mistakes = {
        "from 1": "You use positions 1, 2, 3, ... GPT-2 counts from 0: the first token gets row 0 of the table.",
        "reversed": "Your positions run backwards. The first token gets row 0 of the table.",
        "all first": "Every token gets the vector of position 0. Use F.range to count 0, 1, 2, ...",
        "last rows": "You return the last rows of the table. A sequence starts at row 0, whatever its length.",
        "whole table": "You return the whole table, with n_positions rows. Return only the first seq rows.",
        "scaled": "Your values are twice as large as they should be. Is something added twice?",
    }

    def arguments(self) -> Arrays:
        """Return hidden states; only their length matters."""
        return {"x": random_array(6, self.inputs["x"])}

    def weights(self) -> Arrays:
        """Return the embedding table."""
        return {"weight": random_array(60, ("n_positions", "n_embd"))}

    def build(self, step: ModuleType) -> Any:
        """Create the module."""
        return step.GPT2PositionEmbeddings(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it to a symbolic length."""
        return [built(inputs[0].shape[1])]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        positions = reference.torch.arange(SEQ)
        if "reversed" in wrong:
            positions = positions.flip(0)
        if "all first" in wrong:
            positions = positions * 0
        if "last rows" in wrong:
            positions = positions + SIZES["n_positions"] - SEQ
        if "whole table" in wrong:
            positions = reference.torch.arange(SIZES["n_positions"])
        table = reference.as_tensors(self.weights())["weight"]
        found = reference.functional.embedding(positions + ("from 1" in wrong), table)
        return reference.as_arrays({"y": found * (2 if "scaled" in wrong else 1)})


EXERCISE = Positions()
