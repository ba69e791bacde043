"""What can be said of a learner's file before it is run."""

import ast
import re
from pathlib import Path

from tutorial.exercise import Exercise
from tutorial.places import solution_path, step_name, step_path
from tutorial.problem import WrongAnswerError
from tutorial.skeleton import as_steps, unfinished


def read_step(exercise: Exercise) -> str:
    """Return the text of the learner's file; raises WrongAnswerError when it cannot be an answer yet."""
    number, path = exercise.number, step_path(exercise.number)
    if not path.exists():
        raise WrongAnswerError(f"There is no {step_name(number)}. `make reset STEP={number}` makes it anew.")
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WrongAnswerError(f"{step_name(number)} is not text in UTF-8. Save it as such.") from error
    tree = parsed(source, number)
    left = unfinished(source)
    if left:
        places = "\n".join(f"  line {line}: {name}" for name, line in left)
        raise WrongAnswerError(
            f"There is work left in {step_name(number)}, wherever NotImplementedError is raised:\n{places}"
        )
    defined = {one.name for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    missing = [name for name in exercise.defines if name not in defined]
    if missing:
        raise WrongAnswerError(
            f"{step_name(number)} does not define {' and '.join(missing)}. Others import it by this name, so keep the "
            f"line that defines it; `make reset STEP={number}` brings the skeleton back and keeps a copy of your file."
        )
    return source


def parsed(source: str, number: int) -> ast.Module:
    """Return the tree of a learner's file; raises WrongAnswerError where Python cannot read it."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        start = len(line) - len(line.lstrip())
        shown = f"\n  {line.strip()}\n  {' ' * max(0, (error.offset or 1) - 1 - start)}^" if line else ""
        raise WrongAnswerError(
            f"Python cannot read line {error.lineno} of {step_name(number)}: {error.msg}.{shown}"
        ) from error
    except ValueError as error:
        raise WrongAnswerError(f"Python cannot read {step_name(number)}: {error}.") from error


def used_steps(number: int) -> list[int]:
    """Return the earlier steps that a step's solution imports, and those that these import."""
    source = as_steps(solution_path(number).read_text(encoding="utf-8"))
    found: set[int] = set()
    for one in {int(digits) for digits in re.findall(r"^from steps\.step_(\d\d) ", source, re.MULTILINE)}:
        found |= {one, *used_steps(one)}
    return sorted(found)


def import_line(name: str, number: int) -> str | None:
    """Return the line that brings a name into a step, as its solution has it."""
    source = as_steps(solution_path(number).read_text(encoding="utf-8"))
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    single = ast.parse(ast.unparse(node)).body[0]
                    assert isinstance(single, ast.Import | ast.ImportFrom)
                    single.names = [alias]
                    return ast.unparse(single)
    return None


def number_of(path: str | Path) -> int | None:
    """Return which step a file holds, be it the learner's or the solution."""
    found = re.fullmatch(r"(?:step|solution)_(\d\d)\.py", Path(path).name)
    return int(found[1]) if found else None
