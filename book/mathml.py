"""Formulas become MathML when the book is built: a reader's browser needs no JavaScript and no network for them."""

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from book.errors import BookError

#: What the extension `arithmatex` leaves of a formula: in a line, and standing alone.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def with_mathml(content: str) -> str:
    """Return a page with its formulas in MathML; raises BookError for one that cannot be read."""
    return _FORMULA.sub(lambda found: _converted(html.unescape(found[2]).strip(), found[1] == "div"), content)


def _converted(latex: str, alone: bool) -> str:
    try:
        formula = convert(latex, display="block" if alone else "inline")
    except Exception as error:  # the converter has dozens of its own
        raise BookError(f"The formula {latex!r} cannot be read: {type(error).__name__} {error}") from error
    unknown = re.search(r"\\\w+", re.sub(r"<[^>]*>", " ", formula))
    if unknown:
        raise BookError(f"The formula {latex!r} has {unknown[0]}, which the converter does not know.")
    return f'<div class="formula">{formula}</div>' if alone else formula


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Convert what is on a page; called by MkDocs."""
    try:
        return with_mathml(content)
    except BookError as error:
        raise BookError(f"{page.file.src_uri}: {error}") from error
