"""The Markdown sources of the book, and their code blocks."""

import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
BOOK = ROOT / "book"
DOCS = ROOT / "docs"
PAGES = DOCS / "book"
_BLOCK = re.compile(r"^([ ]*)```(\w+)[^\n]*\n(.*?)^\1```[ ]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, line number, and the output shown directly below it."""

    language: str
    text: str
    line: int
    output: str | None


def blocks(markdown: str) -> list[Block]:
    """Return the blocks of a page; a ```text block is the output of the block directly above it."""
    matches = list(_BLOCK.finditer(markdown))
    found = []
    for match, following in zip_longest(matches, matches[1:]):
        output = None
        if following and following[2] == "text" and not markdown[match.end() : following.start()].strip():
            output = _unindented(following)
        line = markdown[: match.start()].count("\n") + 1
        found.append(Block(match[2], _unindented(match), line, output))
    return found


def _unindented(block: re.Match[str]) -> str:
    """Return the text of a block without the indent of its fence."""
    return "".join(line.removeprefix(block[1]) for line in block[3].splitlines(keepends=True))


def names() -> list[str]:
    """Return the pages of the book, relative to docs/book: `steps/step_01.md`."""
    return sorted(path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md"))


def site_names() -> list[str]:
    """Return all pages of the site, relative to docs: `book/steps/step_01.md`."""
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def settings() -> dict[str, Any]:
    """Return the contents of mkdocs.yml."""
    return dict(yaml.safe_load((ROOT / "mkdocs.yml").read_text()))


def navigation(entries: list[Any] | None = None) -> list[str]:
    """Return the pages in the order of the navigation."""
    found: list[str] = []
    for entry in settings()["nav"] if entries is None else entries:
        inner = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += [inner] if isinstance(inner, str) else navigation(inner)
    return found


def command_blocks(markdown: str) -> list[tuple[list[str], str | None]]:
    """Return the commands of each ```sh block of a page, without comments, and the output shown below the block."""
    found = []
    for block in blocks(markdown):
        if block.language == "sh":
            lines = [re.sub(r"(^|\s+)#.*$", "", line).strip() for line in block.text.splitlines()]
            found.append((list(filter(None, lines)), block.output))
    return found


def commands(markdown: str) -> list[str]:
    """Return the commands of all ```sh blocks of a page."""
    return [command for found, _ in command_blocks(markdown) for command in found]
