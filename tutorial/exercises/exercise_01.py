"""Step 01: the config. It uses no MAX, so its check is instant."""

from types import ModuleType

import numpy as np

from tutorial.exercise import NO_MISTAKES, Exercise, Mistakes, Runner
from tutorial.inputs import Arrays

ACCEPTED = "accepted"


class Config(Exercise):
    """The value of `n_inner`, and the values that are rejected."""

    number = 1
    title = "the config"
    defines = ("GPT2Config",)
    outputs = {
        "n_inner by default": (),
        "n_inner with n_embd=20": (),
        "n_inner=44": (),
        "n_head divides n_embd": (),
        "n_head does not divide n_embd": (),
        "n_head does not divide n_embd, with n_inner=44": (),
    }
    hints = (
        "A dataclass calls a method of its own right after it has set the fields. Both tasks belong in that method.",
        "n_inner is None when no value was given. In that case set it to four times n_embd; leave any other value alone.",
        "Each head gets n_embd / n_head numbers. If the division leaves a remainder, raise a ValueError that names both values.",
    )
    mistakes = {
        "unresolved": "n_inner is still None after GPT2Config() is created. Where it is None, set it to 4 * n_embd.",
        "always": "You replace an n_inner that was given. Only None stands for 4 * n_embd; 44 has to stay 44.",
        "no factor": "You set n_inner to n_embd. The hidden layer of GPT-2's MLP is four times as wide.",
        "gpt2 only": "n_inner is 3072 for every n_embd. Compute it from this config: 4 * n_embd.",
        "unchecked": "Your config accepts n_embd=24 with n_head=5, which leaves a remainder. Raise ValueError when n_embd is not a multiple of n_head.",
        "nested": "You test the heads only if n_inner is None. Test them for every config, outside of that `if`.",
        "reversed": "Your test of the heads has its operands swapped: n_head % n_embd asks whether n_head is a multiple of n_embd. Test n_embd % n_head.",
        "assertion": "You raise AssertionError, as `assert` does. Python can be run with asserts disabled, so raise ValueError instead.",
    }

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Create configs of several sizes."""
        runner.report("forward")

        def n_inner(**fields: int) -> np.ndarray:
            return np.array(str(step.GPT2Config(**fields).n_inner))

        def attempt(**fields: int) -> np.ndarray:
            try:
                step.GPT2Config(**fields)
            except (ValueError, AssertionError) as error:
                return np.array(type(error).__name__)
            return np.array(ACCEPTED)

        found = [attempt(n_embd=24, n_head=heads, **more) for heads, more in ((3, {}), (5, {}), (5, {"n_inner": 44}))]
        if str(found[0]) == ACCEPTED:
            found = [n_inner(), n_inner(n_embd=20, n_head=4), n_inner(n_embd=20, n_head=4, n_inner=44), *found]
        else:
            found = [np.array("")] * 3 + found
        return dict(zip(self.outputs, found, strict=True))

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return the fields of a correct config, or of one with a mistake."""
        widths = ["3072", "80", "44"]
        if "unresolved" in wrong:
            widths = ["None", "None", "44"]
        elif "always" in wrong:
            widths = ["3072", "80", "80"]
        elif "no factor" in wrong:
            widths = ["768", "20", "44"]
        elif "gpt2 only" in wrong:
            widths = ["3072", "3072", "44"]
        divisible, indivisible, with_n_inner = ACCEPTED, "ValueError", "ValueError"
        if "unchecked" in wrong:
            indivisible = with_n_inner = ACCEPTED
        elif "nested" in wrong:
            with_n_inner = ACCEPTED
        elif "assertion" in wrong:
            indivisible = with_n_inner = "AssertionError"
        elif "reversed" in wrong:
            divisible, widths = "ValueError", [""] * 3
        values = [*widths, divisible, indivisible, with_n_inner]
        return {name: np.array(value) for name, value in zip(self.outputs, values, strict=True)}


EXERCISE = Config()
