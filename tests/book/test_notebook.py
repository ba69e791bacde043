"""The notebook matches the solutions and the book, and runs from top to bottom."""

import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from book.excerpts import BookError
from tests.book.pages import DOCS, PAGES, ROOT, blocks
from tests.book.test_python import lines
from tools.make_notebook import EXAMPLE, EXAMPLE_IMPORTS, EXAMPLE_PAGE, GIVEN_CODE, PATH, definitions, notebook, prose
from tutorial.step_files import STEPS, solution_path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stored() -> NotebookNode:
    return nbformat.read(PATH, as_version=4)


def sources(book: NotebookNode, kind: str) -> list[str]:
    return [cell.source for cell in book.cells if cell.cell_type == kind]


def test_stored_notebook_is_current() -> None:
    assert PATH.read_text() == notebook(), "run `make notebook`"


def test_notebook_defines_every_step(stored: NotebookNode) -> None:
    cells = sources(stored, "code")
    code = "\n".join(cells[: cells.index(EXAMPLE_IMPORTS)])
    for number in range(1, STEPS + 1):
        assert definitions(solution_path(number)) in code
    assert definitions(GIVEN_CODE) in code
    assert not re.search(r"^from (solutions|steps|tutorial|max_gpt2)\b", code, re.MULTILINE)


def test_notebook_stores_no_outputs(stored: NotebookNode) -> None:
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_macros_are_expanded_and_links_resolve(stored: NotebookNode) -> None:
    words = "\n".join(sources(stored, "markdown"))
    assert "{{ " not in words
    targets = re.findall(r'(?:\]\(|src="|srcset=")([^)#:"]+\.(?:md|svg))', words)
    assert {target.rsplit(".", 1)[1] for target in targets} == {"md", "svg"}
    for target in targets:
        assert (PATH.parent / target).is_file(), target


def test_collapsed_block_is_rejected() -> None:
    with pytest.raises(BookError, match=re.escape("page.md: a notebook cannot contain '??? tip \"More\"'.")):
        prose('Words.\n\n??? tip "More"\n    Words.\n', "page.md")


def test_notebook_runs_and_prints_the_output_in_the_book(stored: NotebookNode) -> None:
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(stored, timeout=300, kernel_name="python3", resources=resources).execute()
    printed = {
        cell.source: "".join(one.text for one in cell.outputs if one.output_type == "stream" and one.name == "stdout")
        for cell in stored.cells
        if cell.cell_type == "code"
    }
    chapter = (PAGES / "pretrained.md").read_text()
    section = (DOCS / EXAMPLE_PAGE).read_text().partition(EXAMPLE)[2].split("\n## ")[0]
    shown = [block.output for block in blocks(chapter + section) if block.language == "python" and block.output]
    found = [text for text in printed.values() if text]
    assert [lines(text) for text in found] == [lines(text) for text in shown]
    assert any("It was a pleasure to be a great deal of pleasure to her." in text for text in found)
