"""Excerpts of the project's own files by name, so that pages always show the current code."""

import ast
import re
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parent.parent
Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class BookError(Exception):
    """A page refers to something that does not exist; the build fails with this message."""


def read(path: str) -> str:
    """Return the text of a file, given its path from the project root; raise BookError if it does not exist."""
    file = ROOT / path
    if not file.is_file():
        raise BookError(f"There is no file {path}.")
    return file.read_text(encoding="utf-8")


def excerpt(path: str, name: str | None = None) -> str:
    """Return a file, or a class, function, method ("GPT2MLP.forward") or module-level name in it, dedented.

    Decorators and comment lines directly above are included. Raises BookError if there is no such file or name.
    """
    source = read(path)
    if name is None:
        return source.strip("\n")
    lines = source.splitlines()
    if path.endswith(".mojo"):
        found = _mojo_lines(lines, name)
    elif path.endswith(".py"):
        found = _python_lines(ast.parse(source).body, name)
    else:
        raise BookError(f"Cannot look up {name} in {path}: it is neither Python nor Mojo.")
    if found is None:
        raise BookError(f"There is no {name} in {path}.")
    first, last = found
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return dedent("\n".join(lines[first - 1 : last]))


def between(path: str, begin: str, end: str) -> str:
    """Return the text between two markers of a file; raise BookError unless each occurs exactly once."""
    source = read(path)
    for marker in (begin, end):
        if source.count(marker) != 1:
            raise BookError(f"{path} contains {marker} {source.count(marker)} times; it must occur exactly once.")
    return source.split(begin)[1].split(end)[0].strip("\n")


def text_block(path: str, opening: str) -> str:
    """Return the ```text block of a page that begins with `opening`; raise BookError unless there is exactly one."""
    blocks: list[str] = re.findall(r"^```text\n(.*?)^```$", read(path), re.DOTALL | re.MULTILINE)
    found = [block for block in blocks if block.startswith(opening)]
    if len(found) != 1:
        raise BookError(
            f"{path} contains {len(found)} text blocks that begin with {opening!r}; there must be exactly one."
        )
    return found[0].rstrip("\n")


def _python_lines(body: list[ast.stmt], name: str) -> tuple[int, int] | None:
    """Return the first and last line, counted from 1, of the definition with this name."""
    first, _, rest = name.partition(".")
    for node in body:
        if isinstance(node, Named) and node.name == first:
            if rest:
                return _python_lines(node.body, rest)
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return start, node.end_lineno or start
        if not rest and first in _assigned(node):
            return node.lineno, node.end_lineno or node.lineno
    return None


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _mojo_lines(lines: list[str], name: str) -> tuple[int, int] | None:
    """Return the lines of a Mojo function or struct: its signature and the indented lines below it."""
    opening = re.compile(rf"(\s*)(?:def|fn|struct|trait)\s+{re.escape(name)}\b")
    start = next((index for index, line in enumerate(lines) if opening.match(line)), None)
    if start is None:
        return None
    indent = len(lines[start]) - len(lines[start].lstrip())
    last, body = start, False
    for index in range(start, len(lines)):
        line = lines[index].strip()
        if not line:
            continue
        deeper = len(lines[index]) - len(lines[index].lstrip()) > indent
        if body and not deeper:
            break
        last = index
        # A signature continues at its own indent, with `](` and `) raises:`, up to a line that ends in a colon.
        body = body or (not deeper and line.endswith(":"))
    while start and lines[start - 1].strip().startswith("@"):
        start -= 1
    return start + 1, last + 1
