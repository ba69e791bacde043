"""Hold what came out of an answer against PyTorch, and a wrong one against every mistake that is known."""

import numpy as np

from tutorial.exercise import Exercise
from tutorial.sizes import Arrays, named
from tutorial.verdict import Verdict


def judge(exercise: Exercise, observed: Arrays) -> Verdict:
    """Return the verdict over the outputs of an answer."""
    expected = exercise.expected()
    wrong = [name for name in exercise.outputs if not exercise.equal(observed[name], expected[name])]
    if not wrong:
        return Verdict(True, _agreement(observed, expected))
    mistake = known_mistake(exercise, observed)
    if mistake:
        return Verdict(False, exercise.mistakes[mistake])
    right = [name for name in exercise.outputs if name not in wrong]
    lines = [_difference(name, observed[name], expected[name]) for name in wrong]
    if right:
        lines.append(f"Right already: {', '.join(right)}.")
    return Verdict(False, "\n".join(lines))


def known_mistake(exercise: Exercise, observed: Arrays) -> str | None:
    """Return the key of the mistake that gives these very outputs."""
    for key in exercise.mistakes:
        expected = exercise.expected(frozenset({key}))
        if all(exercise.equal(observed[name], array) for name, array in expected.items()):
            return key
    return None


def _agreement(observed: Arrays, expected: Arrays) -> str:
    distances = [
        float(np.abs(observed[name][np.isfinite(array)] - array[np.isfinite(array)]).max())
        for name, array in expected.items()
        if array.dtype.kind == "f" and array.ndim > 1
    ]
    return f"All numbers are PyTorch's, to {max(distances):.0e}." if distances else "All of it is as it should be."


def _difference(name: str, ours: np.ndarray, expected: np.ndarray) -> str:
    if ours.shape != expected.shape:
        return f"{name} has the shape {named(ours.shape)} and should have {named(expected.shape)}."
    if not ours.shape:
        return f"{name}: {_value(ours)}, where {_value(expected)} is right."
    if ours.dtype.kind == "f" and expected.dtype.kind == "f":
        strange = int((~np.isfinite(ours) & np.isfinite(expected)).sum())
        if strange:
            return f"{name} has NaN or infinity in {strange} of its {ours.size} places."
    elif ours.dtype.kind != expected.dtype.kind:
        return f"{name} is an array of {ours.dtype}, where {expected.dtype} is wanted."
    parted = ~np.isclose(ours, expected, rtol=0, atol=1e-4)
    place = tuple(int(index) for index in np.argwhere(parted)[0]) if parted.any() else (0,) * ours.ndim
    return (
        f"{name} has the right shape, {named(ours.shape)}, and other numbers than PyTorch's in {int(parted.sum())} of "
        f"{ours.size} places: at {list(place)} it is {_value(ours[place])}, where {_value(expected[place])} is right."
    )


def _value(one: np.ndarray) -> str:
    return f"{float(one):.4g}" if one.dtype.kind == "f" else str(one)
