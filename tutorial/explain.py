"""An error in a learner's code as a teacher would say it: where it is, what it means, which shapes met there."""

import ast
import re
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from tutorial.places import solution_path, step_name, step_path
from tutorial.reading import import_line, number_of
from tutorial.sizes import with_names

LONGEST = 600


def explained(error: BaseException, number: int) -> str:
    """Return what to tell the learner of an error that came up while their step ran."""
    frame, line = _learners_frame(error.__traceback__)
    parts = [_meaning(error, number)]
    if frame is not None:
        where = number_of(frame.f_code.co_filename) or number
        source = _source_line(frame, line)
        own = frame.f_code.co_filename == str(step_path(where))
        file = f"your {step_name(where)}" if own else f"solutions/solution_{where:02}.py, which your step uses"
        parts.insert(0, f"It stopped in line {line} of {file}:\n  {source}")
        parts += _shapes(frame, source)
    return "\n".join(parts)


def _meaning(error: BaseException, number: int) -> str:
    message = with_names(_shortened(str(error)))
    if isinstance(error, NameError) and error.name:
        line = import_line(error.name, number)
        return f"{error.name} is not defined." + (f" An import is missing: {line}" if line else " Is its name right?")
    if isinstance(error, ModuleNotFoundError):
        return f"There is no module {error.name} to import. Is its name right?"
    if isinstance(error, ImportError):
        return f"The import fails: {message}."
    if isinstance(error, SystemExit):
        return "The step ends the whole program (exit). Leave that out, and return the result."
    if isinstance(error, RecursionError):
        return "A function calls itself without end."
    if isinstance(error, NotImplementedError):
        return f"NotImplementedError is raised here: {message}. There is work left."
    if "only supported for static dims" in message:
        return f"A length is used as a number that is only a name here, as batch and seq are: {message}."
    return f"{type(error).__name__}: {message}"


def _shortened(message: str) -> str:
    """Return what counts of a message; MAX puts its reason after a list of inputs, and advice of its own after that."""
    operation = re.match(r"Failed to create op '(\w+?)(?:Op)?':", message)
    if operation and "Diagnostics:" in message:
        reason = message.split("Diagnostics:")[1].strip().splitlines()[0].split(" Insert an explicit rebind")[0]
        reason = re.sub("#mosh<ape([^>]*)> : !mosh.ape", r"\1", reason)
        message = f"{operation[1]} does not take these. {reason}"
    message = message.strip()
    return message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."


def _learners_frame(trace: TracebackType | None) -> tuple[FrameType | None, int]:
    """Return the innermost frame in a file of the course, the learner's before a solution's."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(trace) if number_of(frame.f_code.co_filename)]
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
    """Say which shapes the tensors have that the line names."""
    found = {}
    for expression in _named_in(source):
        value = _looked_up(expression, frame.f_locals)
        weight = getattr(value, "weight", None)
        if _is_tensor(value):
            found[expression] = _shape(value)
        elif _is_tensor(weight):
            found[f"{expression}.weight"] = _shape(weight)
    return [f"Here {name} is {shape}." for name, shape in found.items()]


def _named_in(source: str) -> list[str]:
    """Return `x` and `self.c_fc` for "return self.c_fc(x)", in the order of the line."""
    text = source.removesuffix(":")
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a line of several, or the head of a loop
        return []
    names = [ast.unparse(one) for one in ast.walk(tree) if isinstance(one, ast.Name | ast.Attribute)]
    return sorted(set(names), key=source.find)


def _looked_up(expression: str, names: dict[str, Any]) -> Any:
    first, *rest = expression.split(".")
    value = names.get(first)
    for attribute in rest:
        value = None if attribute in ("shape", "T") else getattr(value, attribute, None)
    return value


def _is_tensor(value: Any) -> bool:
    from max.experimental.tensor import Tensor

    return isinstance(value, Tensor)


def _shape(value: Any) -> str:
    return with_names(f"[{', '.join(str(dim) for dim in value.shape)}]")
