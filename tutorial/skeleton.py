"""The rule that makes a skeleton: every function keeps its signature and docstring, and its body becomes a TODO."""

import ast
import re

TODO = "# TODO: replace the line below; `make hint STEP={number}` helps."


def skeleton(source: str, number: int) -> str:
    """Return a solution as the learner first sees it.

    All else stays as it is: imports, classes, fields, and functions that have no body to lose (`...`). What the
    solution imports from other solutions, the skeleton imports from the learner's steps. Applied to a skeleton, the
    rule changes nothing; `is_untouched` rests on that.
    """
    lines = source.splitlines()
    for function in reversed(_functions(ast.parse(source))):
        first, last = _body(function)
        indent = " " * function.body[0].col_offset
        name = _qualified(source, function)
        lines[first - 1 : last] = [
            f"{indent}{TODO.format(number=number)}",
            f'{indent}raise NotImplementedError("{name}")',
        ]
    return as_steps("\n".join(lines) + "\n")


def as_steps(source: str) -> str:
    """Return a solution's text with the imports of other solutions as imports of steps."""
    return re.sub(r"\bsolutions\.solution_(\d\d)\b", r"steps.step_\1", source)


def is_untouched(source: str, number: int) -> bool:
    """Whether a step is a skeleton that nobody wrote in, be it of an older solution."""
    try:
        return "raise NotImplementedError" in source and skeleton(source, number) == source
    except SyntaxError:
        return False


def unfinished(source: str) -> list[tuple[str, int]]:
    """Return the functions that still raise NotImplementedError, by their names and the line where they do."""
    found = []
    for function in _functions(ast.parse(source)):
        raising = (one for one in ast.walk(function) if isinstance(one, ast.Raise))
        left = [one.lineno for one in raising if "NotImplementedError" in ast.unparse(one)]
        if left:
            found.append((_qualified(source, function), left[0]))
    return found


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.Module) -> list[Function]:
    """Return the functions and methods that have a body, in the order of the file; those within others do not count."""
    found: list[Function] = []
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        found += [one for one in inside if isinstance(one, Function)]
    return [function for function in found if not _is_declaration(function)]


def _is_declaration(function: Function) -> bool:
    last = function.body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant)


def _body(function: Function) -> tuple[int, int]:
    """Return the first and the last line after the docstring, comments included."""
    documented = ast.get_docstring(function) is not None
    first = (function.body[0].end_lineno or 0) + 1 if documented else function.body[0].lineno
    return first, function.end_lineno or first


def _qualified(source: str, function: Function) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.lineno < function.lineno <= (node.end_lineno or 0):
            return f"{node.name}.{function.name}"
    return function.name
