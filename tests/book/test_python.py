"""The Python blocks of all pages run and print the output shown below them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.pages import DOCS, ROOT, Block, blocks, site_names

CODED = {name: [one for one in blocks((DOCS / name).read_text()) if one.language == "python"] for name in site_names()}
CODED = {name: found for name, found in CODED.items() if found}
Results = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def results(hub: Path) -> Results:
    """The output of every block of every page."""
    command = [sys.executable, "-m", "tests.book.run_pages", *CODED]
    environment = os.environ | {"HF_HOME": str(hub)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found: Results = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CODED)
def test_python_of_a_page_runs(name: str, results: Results) -> None:
    for block, result in zip(CODED[name], results[name], strict=False):
        assert not result["error"], f"{name}, line {block.line}:\n{result['error']}"
        if block.output is not None:
            assert lines(result["out"]) == lines(block.output), f"{name}, line {block.line}"
    assert len(results[name]) == len(CODED[name])


def lines(text: str) -> list[str]:
    """Return the lines of an output without trailing whitespace."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def test_book_has_python_with_output() -> None:
    found = [block for blocks_of_page in CODED.values() for block in blocks_of_page]
    assert sum(block.output is not None for block in found) > 10


def test_blocks_have_their_line_and_output() -> None:
    first = "```python\na\n```\n\n```text\n  b\n```\n\nWords.\n\n"
    page = f"{first}```text\nc\n```\n\n!!! note\n\n    ```sh\n    d # e\n    ```\n"
    assert blocks(page) == [
        Block("python", "a\n", 1, "  b\n"),
        Block("text", "  b\n", 5, None),
        Block("text", "c\n", 11, None),
        Block("sh", "d # e\n", 17, None),
    ]
