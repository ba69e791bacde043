"""MkDocs hooks: convert formulas to MathML at build time, and report a port that is already in use."""

import html
import re
import socket
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import Abort

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from book.excerpts import BookError

#: The markup that the extension `arithmatex` produces for inline and display formulas.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
#: Contains "port" until the port has been checked, once, before MkDocs binds it.
_PENDING: set[str] = set()


def with_mathml(content: str) -> str:
    """Return a page with its formulas as MathML; raise BookError for an invalid formula.

    MathML needs no JavaScript and no network in the browser.
    """
    return _FORMULA.sub(lambda match: _to_mathml(html.unescape(match[2]).strip(), match[1] == "div"), content)


def _to_mathml(latex: str, display: bool) -> str:
    try:
        formula = convert(latex, display="block" if display else "inline")
    except Exception as error:  # the converter raises dozens of exception types
        raise BookError(f"The formula {latex!r} is invalid: {type(error).__name__} {error}") from error
    unknown = re.search(r"\\\w+", re.sub(r"<[^>]*>", " ", formula))
    if unknown:
        raise BookError(f"The formula {latex!r} contains {unknown[0]}, which the converter does not support.")
    return f'<div class="formula">{formula}</div>' if display else formula


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Convert the formulas of a page; called by MkDocs."""
    try:
        return with_mathml(content)
    except BookError as error:
        raise BookError(f"{page.file.src_uri}: {error}") from error


def on_startup(command: str, **_: Any) -> None:
    """Schedule the check of the port if MkDocs is going to serve; called by MkDocs."""
    if command == "serve":
        _PENDING.add("port")


def on_config(config: Any) -> None:
    """Raise Abort if the port is in use; called by MkDocs before each build."""
    if "port" not in _PENDING:
        return
    _PENDING.remove("port")
    host, port = config.dev_addr
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Abort(f"{host}:{port} is already in use. Choose another port: make docs PORT={port + 1}") from error
