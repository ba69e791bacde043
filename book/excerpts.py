"""Pieces of the project's own files, found by name, so that a page always shows what there is."""

import ast
import re
from pathlib import Path
from textwrap import dedent

from book.errors import BookError

ROOT = Path(__file__).resolve().parent.parent
Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read(path: str) -> str:
    """Return the text of a file of the project, named from its root; raises BookError."""
    file = ROOT / path
    if not file.is_file():
        raise BookError(f"There is no file {path}.")
    return file.read_text(encoding="utf-8")


def excerpt(path: str, name: str | None = None) -> str:
    """Return a file, or one class, function, method ("GPT2MLP.forward") or module-level name of it, without indent.

    Decorators and the comment lines just above belong to it. Raises BookError for what is not there.
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
        raise BookError(f"{path} is neither Python nor Mojo, so {name} cannot be found in it.")
    if found is None:
        raise BookError(f"There is no {name} in {path}.")
    first, last = found
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return dedent("\n".join(lines[first - 1 : last]))


def between(path: str, begin: str, end: str) -> str:
    """Return what stands between two marks of a file; raises BookError unless each is there once."""
    source = read(path)
    for mark in (begin, end):
        if source.count(mark) != 1:
            raise BookError(f"{path} has {mark} {source.count(mark)} times, where once is wanted.")
    return source.split(begin)[1].split(end)[0].strip("\n")


def text_block(path: str, opening: str) -> str:
    """Return the ```text block of a page that begins with these words; raises BookError unless there is one."""
    blocks: list[str] = re.findall(r"^```text\n(.*?)^```$", read(path), re.DOTALL | re.MULTILINE)
    found = [one for one in blocks if one.startswith(opening)]
    if len(found) != 1:
        raise BookError(f"{path} has {len(found)} text blocks that begin with {opening!r}, where one is wanted.")
    return found[0].rstrip("\n")


def _python_lines(body: list[ast.stmt], name: str) -> tuple[int, int] | None:
    """Return the first and the last line of what has this name, counted from 1."""
    first, _, rest = name.partition(".")
    for node in body:
        if isinstance(node, Named) and node.name == first:
            if rest:
                return _python_lines(node.body, rest)
            start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            return start, node.end_lineno or start
        if not rest and first in _assigned(node):
            return node.lineno, node.end_lineno or node.lineno
    return None


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [one.id for one in targets if isinstance(one, ast.Name)]


def _mojo_lines(lines: list[str], name: str) -> tuple[int, int] | None:
    """Return the lines of a function or struct of Mojo: its signature, and all that is indented below it."""
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
        # A signature goes on at its own indent, with `](` and `) raises:`; the line that ends in a colon ends it.
        body = body or (not deeper and line.endswith(":"))
    while start and lines[start - 1].strip().startswith("@"):
        start -= 1
    return start + 1, last + 1
