"""The model made of the learner's own steps: what passed is theirs, what did not is the solution's."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tutorial.lookup import use_steps
from tutorial.places import STEPS
from tutorial.progress import read_progress


class Parts(NamedTuple):
    """What a GPT-2 is loaded with: steps 1, 13 and 14; `whose` says which steps are the learner's."""

    config: Callable[..., Any]
    model: Callable[..., Any]
    generate_tokens: Callable[..., Any]
    whose: str = ""


def my_parts() -> Parts:
    """Return the learner's parts; every step below them is theirs, too, if it passed its check."""
    done = read_progress().done()
    use_steps(done)
    first, thirteenth, last = (importlib.import_module(f"steps.step_{number:02}") for number in (1, 13, 14))
    return Parts(first.GPT2Config, thirteenth.MaxGPT2LMHeadModel, last.generate_tokens, whose(done))


def whose(done: list[int]) -> str:
    """Say in a sentence or two which steps are the learner's."""
    others = [number for number in range(1, STEPS + 1) if number not in done]
    if not others:
        return f"All {STEPS} steps are yours."
    if not done:
        return "None of the steps is yours yet, so all come from solutions/. Begin with: make check STEP=1"
    return f"Yours: {_ranges(done)}. From solutions/, for they have not passed yet: {_ranges(others)}."


def _ranges(numbers: list[int]) -> str:
    """Return "steps 1 to 9 and 11" for 1, 2, ..., 9, 11."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    words = [str(one[0]) if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in parts]
    joined = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    return f"{'step' if len(numbers) == 1 else 'steps'} {joined}"
