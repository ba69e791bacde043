"""The files of the tutorial: their paths, and the generation of skeletons from solutions without losing any work."""

import ast
import re
from pathlib import Path

from max_gpt2._files import write_text
from max_gpt2.errors import RequestError

ROOT = Path(__file__).resolve().parent.parent
STEPS = 14
#: The exercises of the chapter "Look inside"; they are numbered after the steps and named inside-1, ...
INSIDE = 3
#: The numbers of all files that a learner fills in.
NUMBERS = range(1, STEPS + INSIDE + 1)
TODO = "# TODO: replace the line below."


def check_number(number: int) -> None:
    """Raise RequestError unless `number` is the number of a step or of an exercise of "Look inside"."""
    if number not in NUMBERS:
        raise RequestError(f"There is no step {number}. The steps are 1 to {STEPS}, and inside-1 to inside-{INSIDE}.")


def parse_number(name: str) -> int:
    """Return the number of a step, such as "4" or "inside-1"; raise RequestError if there is none."""
    found = re.fullmatch(r"(inside-)?(\d{1,3})", name)
    number = int(found[2]) if found else 0
    if not 1 <= number <= (INSIDE if found and found[1] else STEPS):
        raise RequestError(f"There is no step {name}. The steps are 1 to {STEPS}, and inside-1 to inside-{INSIDE}.")
    return number + STEPS if found and found[1] else number


def label(number: int) -> str:
    """Return the name of a step on the command line: "4" or "inside-1"."""
    return f"inside-{number - STEPS}" if number > STEPS else str(number)


def solution_path(number: int) -> Path:
    """Return the path of a step's solution."""
    return ROOT / "solutions" / f"{_stem(number, 'solution')}.py"


def step_path(number: int) -> Path:
    """Return the path of the learner's file for a step."""
    return ROOT / "steps" / f"{_stem(number, 'step')}.py"


def step_name(number: int) -> str:
    """Return the name of the learner's file for messages: `steps/step_04.py`."""
    return f"steps/{_stem(number, 'step')}.py"


def step_module(number: int) -> str:
    """Return the name of the learner's module: `steps.step_04`."""
    return f"steps.{_stem(number, 'step')}"


def _stem(number: int, kind: str) -> str:
    return f"inside_{number - STEPS}" if number > STEPS else f"{kind}_{number:02}"


def progress_path() -> Path:
    """Return the path of the file that stores the progress."""
    return ROOT / "steps" / ".progress.json"


def backup_folder() -> Path:
    """Return the folder for copies of files that were reset."""
    return ROOT / "steps" / ".backup"


def step_number(path: str | Path) -> int | None:
    """Return the number of the step if a path is a learner's file or a solution, else None."""
    name = Path(path).name
    if found := re.fullmatch(r"(?:step|solution)_(\d\d)\.py", name):
        return int(found[1])
    inside = re.fullmatch(r"inside_(\d)\.py", name)
    return STEPS + int(inside[1]) if inside and Path(path).parent.name in ("steps", "solutions") else None


def make_steps() -> tuple[list[int], list[int]]:
    """Write each skeleton that is missing or unedited; return the steps written and the steps left alone."""
    written, edited = [], []
    for number in NUMBERS:
        path = step_path(number)
        if path.exists() and not is_untouched(path.read_text()):
            edited.append(number)
        else:
            path.write_text(skeleton(solution_path(number).read_text()))
            written.append(number)
    return written, edited


def reset_step(number: int) -> Path | None:
    """Replace a learner's file with the skeleton; return the path of the backup, or None if there was no file.

    Raises RequestError if there is no such step.
    """
    check_number(number)
    path, backup = step_path(number), None
    if path.exists():
        backup_folder().mkdir(exist_ok=True)
        backup = _unused_path(backup_folder() / path.name)
        backup.write_bytes(path.read_bytes())
    write_text(path, skeleton(solution_path(number).read_text(encoding="utf-8")))
    return backup


def _unused_path(path: Path) -> Path:
    """Return the first unused path: step_04.py, step_04.2.py, step_04.3.py."""
    unused, count = path, 1
    while unused.exists():
        count += 1
        unused = path.with_suffix(f".{count}{path.suffix}")
    return unused


def skeleton(source: str) -> str:
    """Return a solution with the body of each function replaced by a TODO.

    Imports, classes, fields, signatures, docstrings and functions without a body (`...`) stay. Imports of other
    solutions become imports of steps. Applying the rule to a skeleton changes nothing; `is_untouched` relies on that.
    """
    lines = source.splitlines()
    for function in reversed(_functions(ast.parse(source))):
        first, last = _body(function)
        indent = " " * function.body[0].col_offset
        name = _qualified_name(source, function)
        lines[first - 1 : last] = [
            f"{indent}{TODO}",
            f'{indent}raise NotImplementedError("{name}")',
        ]
    return import_from_steps("\n".join(lines) + "\n")


def import_from_steps(source: str) -> str:
    """Return the source of a solution with imports of other solutions replaced by imports of steps."""
    return re.sub(r"\bsolutions\.solution_(\d\d)\b", r"steps.step_\1", source)


def is_untouched(source: str) -> bool:
    """Return True for an unedited skeleton, including one made from an older solution."""
    try:
        return "raise NotImplementedError" in source and skeleton(source) == source
    except SyntaxError:
        return False


def unfinished(source: str) -> list[tuple[str, int]]:
    """Return the name of each function that raises NotImplementedError, and the line where it does."""
    found = []
    for function in _functions(ast.parse(source)):
        raising = (node for node in ast.walk(function) if isinstance(node, ast.Raise))
        lines = [node.lineno for node in raising if "NotImplementedError" in ast.unparse(node)]
        if lines:
            found.append((_qualified_name(source, function), lines[0]))
    return found


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.Module) -> list[Function]:
    """Return the top-level functions and methods that have a body, in the order of the file."""
    found: list[Function] = []
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        found += [member for member in members if isinstance(member, Function)]
    return [function for function in found if not _is_declaration(function)]


def _is_declaration(function: Function) -> bool:
    last = function.body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant)


def _body(function: Function) -> tuple[int, int]:
    """Return the first and last line after the docstring, including comments."""
    has_docstring = ast.get_docstring(function) is not None
    first = (function.body[0].end_lineno or 0) + 1 if has_docstring else function.body[0].lineno
    return first, function.end_lineno or first


def _qualified_name(source: str, function: Function) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.lineno < function.lineno <= (node.end_lineno or 0):
            return f"{node.name}.{function.name}"
    return function.name
