"""Step 01: the config. No MAX in it, so its check takes no time."""

from types import ModuleType

import numpy as np

from tutorial.exercise import RIGHT, Exercise, Report, Wrong
from tutorial.sizes import Arrays

ACCEPTED = "accepted"


class Config(Exercise):
    """What `n_inner` becomes, and what is refused."""

    number = 1
    title = "the config"
    defines = ("GPT2Config",)
    outputs = {
        "n_inner of gpt2": (),
        "n_inner at n_embd=20": (),
        "n_inner given": (),
        "even heads": (),
        "uneven heads": (),
    }
    hints = (
        "A dataclass calls a method of its own right after it has set the fields. That is the place for both tasks.",
        "n_inner is None when nobody gave it. Then it has to become four times n_embd; a width that was given has to stay.",
        "Each head gets n_embd / n_head numbers. When that division leaves a remainder, raise ValueError and name both values.",
    )
    mistakes = {
        "unresolved": "n_inner is still None after GPT2Config() is made. Where it is None, it has to become 4 * n_embd.",
        "always": "An n_inner that was given is replaced. Only None stands for 4 * n_embd; 44 has to stay 44.",
        "no four": "n_inner became n_embd itself. The hidden layer of GPT-2's MLP is four times as wide.",
        "gpt2 only": "n_inner is 3072 whatever n_embd is. It has to be 4 * n_embd of this very config.",
        "unchecked": "Five heads cannot share a width of 24, and your config lets it pass. Raise ValueError when n_embd is "
        "not a multiple of n_head.",
        "other way": "The test of the heads is the wrong way round: n_head % n_embd asks whether the heads are a multiple of "
        "the width. It is n_embd that has to be a multiple of n_head.",
        "assertion": "You raise AssertionError, as assert does. Asserts can be switched off, so raise ValueError instead.",
    }

    def observe(self, step: ModuleType, report: Report) -> Arrays:
        """Make configs of several sizes."""
        report("forward")

        def n_inner(**fields: int) -> np.ndarray:
            return np.array(str(step.GPT2Config(**fields).n_inner))

        def attempt(**fields: int) -> np.ndarray:
            try:
                step.GPT2Config(**fields)
            except (ValueError, AssertionError) as error:
                return np.array(type(error).__name__)
            return np.array(ACCEPTED)

        seen = [attempt(n_embd=24, n_head=3), attempt(n_embd=24, n_head=5)]
        if str(seen[0]) == ACCEPTED:
            seen = [n_inner(), n_inner(n_embd=20, n_head=4), n_inner(n_embd=20, n_head=4, n_inner=44), *seen]
        else:
            seen = [np.array("")] * 3 + seen
        return dict(zip(self.outputs, seen, strict=True))

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what the right config has, or one with a mistake."""
        widths = ["3072", "80", "44"]
        if "unresolved" in wrong:
            widths = ["None", "None", "44"]
        elif "always" in wrong:
            widths = ["3072", "80", "80"]
        elif "no four" in wrong:
            widths = ["768", "20", "44"]
        elif "gpt2 only" in wrong:
            widths = ["3072", "3072", "44"]
        even, uneven = ACCEPTED, "ValueError"
        if "unchecked" in wrong:
            uneven = ACCEPTED
        elif "assertion" in wrong:
            uneven = "AssertionError"
        elif "other way" in wrong:
            even, widths = "ValueError", [""] * 3
        return {name: np.array(value) for name, value in zip(self.outputs, [*widths, even, uneven], strict=True)}


EXERCISE = Config()
