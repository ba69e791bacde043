"""Step 02: the causal mask."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tutorial.exercise import NO_MISTAKES, GraphExercise, MaxTensor, Mistakes
from tutorial.inputs import SEQ, Arrays, random_array


class Mask(GraphExercise):
    """The mask for a sequence of 7 tokens."""

    number = 2
    title = "the causal mask"
    defines = ("causal_mask",)
    inputs = {"x": ("batch", "seq", "n_embd")}
    outputs = {"mask": ("seq", "seq")}
    hints = (
        "Think of a matrix with a row for each query and a column for each key. Which half of it would let a token see the tokens after it?",
        "Start from a matrix filled with -inf (F.broadcast_to of a single number), then set the visible part to 0.",
        "F.band_part keeps a band around the diagonal; with exclude=True it keeps everything except the band. num_lower=None extends the band down to the corner, num_upper=0 ends it at the diagonal.",
    )
    mistakes = {
        "sign": "This mask has the wrong sign: +inf where it should be -inf. The softmax would attend only to the tokens that should be hidden.",
        "self hidden": "This mask is off by one: it hides the diagonal too, so no token can attend to itself, and the first one has nothing to attend to. Allow j <= i, not only j < i.",
        "next seen": "This mask is off by one: each token can attend to the next one, which is exactly the token it has to predict.",
        "upside down": "This mask is transposed: it hides the past and shows the future. Row i is the query, column j the key.",
        "inverse": "This mask is inverted: it hides what should be visible and shows what should be hidden. In band_part, exclude=True keeps the part outside the band.",
        "all hidden": "The whole mask is -inf. Set the diagonal and everything below it to 0.",
        "nothing hidden": "The whole mask is 0, which hides nothing. Above the diagonal it has to be -inf.",
        "zeros and ones": "This mask contains 1 and 0. The mask is added to the scores, so it has to contain 0 and -inf.",
        "small": "The hidden entries are -1, which only lowers their weights a little. They have to be -inf.",
    }

    def arguments(self) -> Arrays:
        """Return hidden states; only their length matters."""
        return {"x": random_array(2, self.inputs["x"])}

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Create the mask for a symbolic length."""
        return [step.causal_mask(inputs[0].shape[1])]

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return the mask."""
        from tutorial import reference

        return reference.as_arrays({"mask": reference.causal_mask(SEQ, wrong)})


EXERCISE = Mask()
