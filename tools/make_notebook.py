"""Generate notebooks/tutorial.ipynb, without outputs, from the solutions and the book: `make notebook`."""

import ast
import html
import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

from book.excerpts import BookError
from book.macros import PAGES, code, figure, measured, mistake, transcript
from tutorial.step_files import ROOT, STEPS, solution_path

PATH = ROOT / "notebooks" / "tutorial.ipynb"
#: Code that no step contains, and the first step that uses it.
GIVEN_CODE, USES_GIVEN_CODE = ROOT / "solutions" / "pretrained.py", 13
#: The last section of the chapter on loading to include; the following ones need a terminal.
LAST_SECTION = "## Generate"
#: The page and the section with the example at the end, and what its code imports earlier on the page.
EXAMPLE_PAGE, EXAMPLE = "activations.md", "## Worked example: the indirect object"
EXAMPLE_IMPORTS = """from max_gpt2 import GPT2
from max_gpt2.inspect import ablate_head"""
INTRODUCTION = """# GPT-2 on MAX, in one notebook

The fourteen steps of [the book](../docs/book/index.md), each with its solution, followed by the chapter on loading
pretrained weights. The notebook does not import the project's own model: every cell defines what it needs, and where
the chapter mentions the solutions, it refers to the cells above. The example at the end uses the package `max_gpt2` to
look into a checkpoint. Try to change a step, run its cell and the ones below it, and see how the generated text
changes.

Open it with VS Code or JupyterLab and select `.venv` as its kernel; `make demo` creates it. `make notebook` regenerates
this file, without outputs."""
#: The text above the code that is given in the tutorial, before step 13.
GIVEN = """# Given: loading weights and calling a model

This code is not part of a step. Step 13 builds on it, and so does the chapter on loading pretrained weights."""
SETUP = """# Paths are relative to the root of the project, wherever the notebook was opened.
import os
from pathlib import Path

while not Path("solutions").is_dir() and Path.cwd() != Path("/"):
    os.chdir("..")"""

_MACRO = re.compile(r"^\{\{ (\w+)\((.*)\) \}\}$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([^):\s]+\.md(?:#[^)\s]*)?)\)")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$\n?", re.DOTALL | re.MULTILINE)


def cells() -> list[tuple[str, str]]:
    """Return the kind ("markdown" or "code") and the text of each cell."""
    found = [("markdown", INTRODUCTION), ("code", SETUP)]
    for number in range(1, STEPS + 1):
        name = f"steps/step_{number:02}.md"
        if number == USES_GIVEN_CODE:
            found += [("markdown", GIVEN), ("code", definitions(GIVEN_CODE))]
        found += [("markdown", prose(introduction(name), name)), ("code", definitions(solution_path(number)))]
    return found + chapter("pretrained.md") + example()


def introduction(name: str) -> str:
    """Return a page up to its second heading."""
    return (PAGES / name).read_text(encoding="utf-8").split("\n## ")[0]


def definitions(path: Path) -> str:
    """Return a solution without its module docstring and its imports of other solutions, which are cells above."""
    source = path.read_text(encoding="utf-8")
    lines, excluded = source.splitlines(), set[int]()
    for index, node in enumerate(ast.parse(source).body):
        is_title = index == 0 and isinstance(node, ast.Expr)
        if is_title or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("solutions.")):
            excluded |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = "\n".join(line for index, line in enumerate(lines, 1) if index not in excluded)
    return re.sub(r"\n{4,}", "\n\n\n", kept).strip("\n")


def chapter(name: str) -> list[tuple[str, str]]:
    """Return a chapter as cells, up to `LAST_SECTION`."""
    before, _, rest = (PAGES / name).read_text(encoding="utf-8").partition(LAST_SECTION)
    return divided(before + LAST_SECTION + rest.split("\n## ")[0], name)


def example() -> list[tuple[str, str]]:
    """Return the worked example on looking inside as cells; unlike the other cells, it uses the package."""
    _, _, rest = (PAGES.parent / EXAMPLE_PAGE).read_text(encoding="utf-8").partition(EXAMPLE)
    return [("code", EXAMPLE_IMPORTS), *divided(EXAMPLE + rest.split("\n## ")[0], f"../{EXAMPLE_PAGE}")]


def divided(text: str, name: str) -> list[tuple[str, str]]:
    """Return the text of a page as cells: its prose, and its Python blocks without imports of the solutions."""
    found, end = list[tuple[str, str]](), 0
    for block in _BLOCK.finditer(text):
        if block[1] == "python":
            found += [("markdown", prose(text[end : block.start()], name)), ("code", without_solutions(block[2]))]
        elif block[1] == "text":  # the output, which running the cell will produce
            found.append(("markdown", prose(text[end : block.start()], name)))
        else:
            continue
        end = block.end()
    found.append(("markdown", prose(text[end:], name)))
    return [(kind, text) for kind, text in found if text]


def without_solutions(source: str) -> str:
    """Return code without its imports of the solutions."""
    kept = re.sub(r"^from solutions\.\S+ import .*\n", "", source, flags=re.MULTILINE)
    return kept.strip("\n") if kept == source else re.sub(r"\n{3,}", "\n\n", kept).strip("\n")


def prose(text: str, page: str) -> str:
    """Return the prose of a page for a notebook, with macros expanded and links adjusted.

    Raises BookError for a collapsed block, which notebooks do not support.
    """
    if folded := re.search(r"^(?:\?{3}\+?|!!!) .*$", text, re.MULTILINE):
        raise BookError(f"{page}: a notebook cannot contain {folded[0]!r}.")
    shown = _MACRO.sub(lambda found: _included(found[1], found[2], page), text)
    folder = Path(page).parent
    return _LINK.sub(lambda found: f"[{found[1]}]({_relative_link(folder / found[2])})", shown).strip("\n")


def _included(macro: str, arguments: str, page: str) -> str:
    given = [ast.literal_eval(node) for node in _call(f"{macro}({arguments})").args]
    if macro == "figure":
        name, alt, caption = given
        figure(name, alt, caption, page)  # raises if the figure does not exist
        drawing = f"../docs/book/figures/{name}"
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{drawing}-dark.svg">'
        image = f'<img src="{drawing}-light.svg" alt="{html.escape(alt)}" width="500">'
        return f"<picture>{dark}{image}</picture>\n\n*{caption}*"
    macros: dict[str, Any] = {"code": code, "mistake": mistake, "measured": measured, "transcript": transcript}
    text = str(macros[macro](*given))
    return re.sub(r'^(`{3,}\w+) title="[^"]*"', r"\1", text)


def _call(source: str) -> ast.Call:
    node = ast.parse(source, mode="eval").body
    assert isinstance(node, ast.Call)
    return node


def _relative_link(target: Path) -> str:
    """Return the path of a page relative to notebooks/: "steps/../pretrained.md" -> "../docs/book/pretrained.md"."""
    parts: list[str] = []
    for part in target.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(["../docs/book", *parts])


def notebook() -> str:
    """Return the notebook as JSON text."""
    made = v4.new_notebook()
    made.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for index, (kind, text) in enumerate(cells()):
        cell = v4.new_markdown_cell(text) if kind == "markdown" else v4.new_code_cell(text)
        cell["id"] = f"cell-{index:02}"
        made.cells.append(cell)
    nbformat.validate(made)
    return str(nbformat.writes(made)) + "\n"


def main() -> None:
    """Write the notebook."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(notebook(), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
