"""Turn the outputs of a learner's code, or the exception it raised, into a verdict with an explanation."""

import ast
import re
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from tutorial.exercise import Exercise, Verdict
from tutorial.inputs import Arrays, format_shape, name_sizes
from tutorial.step_files import solution_path, step_name, step_number, step_path
from tutorial.step_loader import import_line

MAX_MESSAGE_LENGTH = 600


def judge(exercise: Exercise, observed: Arrays) -> Verdict:
    """Compare the outputs with PyTorch's; if they differ, look for a known mistake that explains the difference."""
    expected = exercise.expected()
    wrong = [name for name in exercise.outputs if not exercise.equal(observed[name], expected[name])]
    if not wrong:
        return Verdict(True, exercise.summary(observed) or _agreement(observed, expected))
    mistake = known_mistake(exercise, observed)
    if mistake:
        return Verdict(False, exercise.mistakes[mistake])
    correct = [name for name in exercise.outputs if name not in wrong]
    lines = [_difference(name, observed[name], expected[name], exercise.reference) for name in wrong]
    if correct:
        lines.append(f"Already correct: {', '.join(correct)}.")
    return Verdict(False, "\n".join(lines))


def known_mistake(exercise: Exercise, observed: Arrays) -> str | None:
    """Return the key of the known mistake that produces exactly these outputs, or None."""
    for key in exercise.mistakes:
        expected = exercise.expected(frozenset({key}))
        if all(exercise.equal(observed[name], array) for name, array in expected.items()):
            return key
    return None


def _agreement(observed: Arrays, expected: Arrays) -> str:
    differences = [
        float(np.abs(observed[name][np.isfinite(array)] - array[np.isfinite(array)]).max())
        for name, array in expected.items()
        if array.dtype.kind == "f" and array.ndim > 1
    ]
    if not differences:
        return "All outputs are correct."
    return f"All outputs match PyTorch (largest difference {max(differences):.0e})."


def _difference(name: str, ours: np.ndarray, expected: np.ndarray, reference: str) -> str:
    if ours.shape != expected.shape:
        return f"{name} has shape {format_shape(ours.shape)}; it should be {format_shape(expected.shape)}."
    if not ours.shape:
        return f"{name}: got {_value(ours)}, expected {_value(expected)}."
    if ours.dtype.kind == "f" and expected.dtype.kind == "f":
        invalid = int((~np.isfinite(ours) & np.isfinite(expected)).sum())
        if invalid:
            return f"{name} contains NaN or infinity in {invalid} of its {ours.size} elements."
    elif ours.dtype.kind != expected.dtype.kind:
        return f"{name} is an array of {ours.dtype}; it should be {expected.dtype}."
    differs = ~np.isclose(ours, expected, rtol=0, atol=1e-4)
    index = tuple(int(axis) for axis in np.argwhere(differs)[0]) if differs.any() else (0,) * ours.ndim
    return (
        f"{name} has the right shape, {format_shape(ours.shape)}, but {int(differs.sum())} of its {ours.size} elements "
        f"differ from {reference}'s: at index {list(index)}, got {_value(ours[index])}, expected "
        f"{_value(expected[index])}."
    )


def _value(scalar: np.ndarray) -> str:
    return f"{float(scalar):.4g}" if scalar.dtype.kind == "f" else str(scalar)


def explain_error(error: BaseException, number: int) -> str:
    """Explain an exception raised while a learner's step ran: the line, the cause, and the shapes involved."""
    frame, line = _learner_frame(error.__traceback__)
    parts = [_cause(error, number)]
    if frame is not None:
        where = step_number(frame.f_code.co_filename) or number
        source = _source_line(frame, line)
        own = frame.f_code.co_filename == str(step_path(where))
        file = f"your {step_name(where)}" if own else f"solutions/{solution_path(where).name}, which your step calls"
        parts.insert(0, f"Error in line {line} of {file}:\n  {source}")
        parts += _shapes(frame, source)
    return "\n".join(parts)


def _cause(error: BaseException, number: int) -> str:
    message = name_sizes(_shorten(str(error)))
    if isinstance(error, NameError) and error.name:
        line = import_line(error.name, number)
        return f"{error.name} is not defined. " + (f"Add the import: {line}" if line else "Check its spelling.")
    if isinstance(error, ModuleNotFoundError):
        return f"There is no module named {error.name}. Check its spelling."
    if isinstance(error, ImportError):
        return f"The import failed: {message}."
    if isinstance(error, SystemExit):
        return "The step calls exit. Remove the call and return the result instead."
    if isinstance(error, RecursionError):
        return "A function calls itself without end."
    if isinstance(error, NotImplementedError):
        return f"This function is not finished: it raises NotImplementedError ({message})."
    if "only supported for static dims" in message:
        return f"A symbolic dimension (batch or seq) has no value yet and cannot be used as a number: {message}."
    return f"{type(error).__name__}: {message}"


def _shorten(message: str) -> str:
    """Return the relevant part of a message; MAX puts the reason between a list of inputs and general advice."""
    operation = re.match(r"Failed to create op '(\w+?)(?:Op)?':", message)
    if operation and "Diagnostics:" in message:
        reason = message.split("Diagnostics:")[1].strip().splitlines()[0].split(" Insert an explicit rebind")[0]
        reason = re.sub("#mosh<ape([^>]*)> : !mosh.ape", r"\1", reason)
        message = f"{operation[1]} cannot take these inputs. {reason}"
    message = message.strip()
    return message if len(message) <= MAX_MESSAGE_LENGTH else f"{message[:MAX_MESSAGE_LENGTH]} ..."


def _learner_frame(trace: TracebackType | None) -> tuple[FrameType | None, int]:
    """Return the innermost frame in a learner's file, or else in a solution, with its line."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(trace) if step_number(frame.f_code.co_filename)]
    own = [(frame, line) for frame, line in frames if frame.f_code.co_filename.startswith(str(step_path(1).parent))]
    solved = [
        (frame, line) for frame, line in frames if frame.f_code.co_filename.startswith(str(solution_path(1).parent))
    ]
    found = own or solved
    return found[-1] if found else (None, 0)


def _source_line(frame: FrameType, line: int) -> str:
    lines = Path(frame.f_code.co_filename).read_text(encoding="utf-8").splitlines()
    return lines[line - 1].strip() if line <= len(lines) else ""


def _shapes(frame: FrameType, source: str) -> list[str]:
    """Return a sentence with the shape of each tensor that occurs in the line."""
    found = {}
    for expression in _names_in(source):
        value = _look_up(expression, frame.f_locals)
        weight = getattr(value, "weight", None)
        if _is_tensor(value):
            found[expression] = _shape(value)
        elif _is_tensor(weight):
            found[f"{expression}.weight"] = _shape(weight)
    return [f"Here {name} is {shape}." for name, shape in found.items()]


def _names_in(source: str) -> list[str]:
    """Return the names and attributes in a line by position: "return self.c_fc(x)" -> ["self.c_fc", "self", "x"]."""
    text = source.removesuffix(":")
    try:
        tree = ast.parse(text)
    except SyntaxError:  # part of a longer statement, or the head of a loop
        return []
    names = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
    return sorted(set(names), key=source.find)


def _look_up(expression: str, names: dict[str, Any]) -> Any:
    first, *rest = expression.split(".")
    value = names.get(first)
    for attribute in rest:
        value = None if attribute in ("shape", "T") else getattr(value, attribute, None)
    return value


def _is_tensor(value: Any) -> bool:
    from max.experimental.tensor import Tensor  # imported late: MAX is loaded by the time a step has run

    return isinstance(value, Tensor)


def _shape(value: Any) -> str:
    return name_sizes(f"[{', '.join(str(dim) for dim in value.shape)}]")
