"""Step 06: position embeddings."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.exercises.parts import config
from tutorial.sizes import SEQ, SIZES, Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Positions(GraphExercise):
    """The first 7 of 19 positions."""

    number = 6
    title = "position embeddings"
    defines = ("GPT2PositionEmbeddings",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"y": ("seq", "n_embd")}
    hints = (
        "The same as step 5, but nobody hands you the ids: they are 0, 1, 2, ... up to the length of the text.",
        "F.range counts. The length may be a name instead of a number, so tell it the length of its result, too: out_dim=seq.",
        "Where an operation wants a tensor and seq is a dimension, Tensor.from_dim(seq) makes one of it. Ids are DType.int64.",
    )
    mistakes = {
        "from 1": "These are the positions 1, 2, 3, ... GPT-2 counts from 0: the first token has row 0 of the table.",
        "reversed": "The positions run backwards here. The first token has row 0 of the table.",
        "all first": "Every token has the vector of position 0 here. Use F.range to count 0, 1, 2, ...",
        "last rows": "These are the last rows of the table. A text starts at its first row, however long it is.",
        "whole table": "This is the whole table, one row for each of n_positions. Return the first seq rows only.",
        "scaled": "The numbers are right but for a factor of two: is something added twice?",
    }

    def arguments(self) -> Arrays:
        """Return a text of which only the length counts."""
        return {"x": numbers(6, self.inputs["x"])}

    def weights(self) -> Arrays:
        """Return the table."""
        return {"weight": numbers(60, ("n_positions", "n_embd"))}

    def build(self, step: ModuleType) -> Any:
        """Make the module."""
        return step.GPT2PositionEmbeddings(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Look up the positions of a text whose length is only a name in the graph."""
        return [built(inputs[0].shape[1])]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch looks up."""
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
