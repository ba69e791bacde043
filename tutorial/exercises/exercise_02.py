"""Step 02: the causal mask."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tutorial.exercise import RIGHT, GraphExercise, Wrong
from tutorial.sizes import SEQ, Arrays, numbers

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor


class Mask(GraphExercise):
    """The mask of a text of 7 tokens."""

    number = 2
    title = "the causal mask"
    defines = ("causal_mask",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"mask": ("seq", "seq")}
    hints = (
        "Think of the matrix as rows of queries and columns of keys. Which half of it must a reader who goes from left to right not see?",
        "Start from a matrix that is -inf everywhere, F.broadcast_to of a single number, and clear the part that may be seen.",
        "F.band_part keeps a band around the diagonal; with exclude=True it keeps all but the band. num_lower=None reaches down to the corner, num_upper=0 stops at the diagonal.",
    )
    mistakes = {
        "sign": "This is the mask with the wrong sign: +inf where it has to be -inf. The softmax would look at nothing but "
        "the tokens that are to be hidden.",
        "self hidden": "This mask is off by one: it hides the diagonal, too, so that no token may look at itself, and the "
        "first one at nothing at all. j <= i is allowed, not j < i.",
        "next seen": "This mask is off by one: every token may look at the one after it, which is the very one that it "
        "is to predict.",
        "upside down": "This mask is transposed: it hides the past and shows the future. Row i is the query, column j "
        "the key.",
        "inverse": "This is the mask with its two halves exchanged: it hides what may be seen and shows what may not. "
        "With band_part, exclude=True is what keeps the part outside of the band.",
        "all hidden": "All of it is -inf. Set the diagonal and what is below it to 0.",
        "nothing hidden": "All of it is 0, which hides nothing. Above the diagonal it has to be -inf.",
        "zeros and ones": "This mask is made to be multiplied: 1 and 0. Ours is added to the scores: 0 and -inf.",
        "small": "The hidden places are -1, which makes them only a little less likely. They have to be -inf.",
    }

    def arguments(self) -> Arrays:
        """Return a text of which only the length counts."""
        return {"x": numbers(2, self.inputs["x"])}

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Make the mask for a length that is only a name in the graph."""
        return [step.causal_mask(inputs[0].shape[1])]

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return the mask, or a wrong one."""
        from tutorial import reference

        return reference.as_arrays({"mask": reference.causal_mask(SEQ, wrong)})


EXERCISE = Mask()
