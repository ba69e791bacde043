"""Read a learner's file, validate it before it runs, and import each step from steps/ or from solutions/."""

import ast
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

from tutorial.exercise import Exercise, WrongAnswerError
from tutorial.step_files import (
    NUMBERS,
    STEPS,
    import_from_steps,
    label,
    solution_path,
    step_module,
    step_name,
    step_path,
    unfinished,
)

MODULES = {step_module(number): number for number in NUMBERS}


class StepLoader(SourceLoader):
    """Load a file as a step, always from source: cached bytecode may be older than a file that was just saved."""

    def __init__(self, path: Path) -> None:
        """Take the path of a learner's file or of a solution."""
        self.path = path

    def get_filename(self, fullname: str) -> str:
        """Return the path, which tracebacks show."""
        return str(self.path)

    def get_data(self, path: bytes | str) -> bytes:
        """Return the source; solutions import steps, so that the learner's code is used wherever possible."""
        return import_from_steps(Path(str(path)).read_text(encoding="utf-8")).encode()


class StepFinder(MetaPathFinder):
    """Find the learner's own steps in steps/ and all others in solutions/."""

    def __init__(self, own: Iterable[int]) -> None:
        """Take the numbers of the learner's own steps."""
        self.own = frozenset(own)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a step; None for any other module."""
        number = MODULES.get(fullname)
        if number is None:
            return None
        file = step_path(number) if number in self.own else solution_path(number)
        return spec_from_loader(fullname, StepLoader(file))


def use_steps(own: Iterable[int]) -> None:
    """Import these steps from the learner's files and all others from the solutions; discard earlier imports."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, StepFinder)]
    sys.meta_path.insert(0, StepFinder(own))
    for name in MODULES:
        sys.modules.pop(name, None)


def read_step(exercise: Exercise) -> str:
    """Return the source of the learner's file; raise WrongAnswerError if it is missing, invalid or unfinished."""
    number, path = exercise.number, step_path(exercise.number)
    if not path.exists():
        raise WrongAnswerError(f"{step_name(number)} is missing. Run `make reset STEP={label(number)}` to create it.")
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WrongAnswerError(f"{step_name(number)} is not encoded as UTF-8. Save it as UTF-8.") from error
    tree = parse_step(source, number)
    todo = unfinished(source)
    if todo:
        lines = "\n".join(f"  line {line}: {name}" for name, line in todo)
        raise WrongAnswerError(
            f"{step_name(number)} is not finished. These functions still raise NotImplementedError:\n{lines}"
        )
    defined = {
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    missing = [name for name in exercise.defines if name not in defined]
    if missing:
        raise WrongAnswerError(
            f"{step_name(number)} does not define {' and '.join(missing)}. Later steps import it by this name, so keep "
            f"the line that defines it. `make reset STEP={label(number)}` restores the skeleton and keeps a copy of "
            "your file."
        )
    return source


def parse_step(source: str, number: int) -> ast.Module:
    """Return the syntax tree of a learner's file; raise WrongAnswerError at a syntax error."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        start = len(line) - len(line.lstrip())
        marked = f"\n  {line.strip()}\n  {' ' * max(0, (error.offset or 1) - 1 - start)}^" if line else ""
        raise WrongAnswerError(
            f"Syntax error in line {error.lineno} of {step_name(number)}: {error.msg}.{marked}"
        ) from error
    except ValueError as error:
        raise WrongAnswerError(f"Python cannot parse {step_name(number)}: {error}.") from error


def used_steps(number: int) -> list[int]:
    """Return the earlier steps that a step's solution imports, directly or indirectly.

    An exercise of "Look inside" uses all steps: it runs the finished model.
    """
    if number > STEPS:
        return list(range(1, STEPS + 1))
    source = import_from_steps(solution_path(number).read_text(encoding="utf-8"))
    found: set[int] = set()
    for imported in {int(digits) for digits in re.findall(r"^from steps\.step_(\d\d) ", source, re.MULTILINE)}:
        found |= {imported, *used_steps(imported)}
    return sorted(found)


def import_line(name: str, number: int) -> str | None:
    """Return the import statement for a name, as the solution of a step has it; None if it imports no such name."""
    source = import_from_steps(solution_path(number).read_text(encoding="utf-8"))
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    single = ast.parse(ast.unparse(node)).body[0]
                    assert isinstance(single, ast.Import | ast.ImportFrom)
                    single.names = [alias]
                    return ast.unparse(single)
    return None
