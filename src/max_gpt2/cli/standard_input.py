"""What standard input is: a terminal with somebody at it, or a text that another program hands over."""

import os
import stat
import sys

from max_gpt2.errors import RequestError


def at_a_terminal() -> bool:
    """Say whether somebody can type and read here."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def piped_text() -> str | None:
    """Return the text of a pipe or a file on standard input without its last line end; None when there is no text.

    Raises RequestError when it is not UTF-8.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # closed
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return None
    with open(0, "rb", closefd=False) as file:
        content = file.read()
    try:
        return content.decode().removesuffix("\n").removesuffix("\r") or None
    except UnicodeDecodeError as error:
        raise RequestError(f"Standard input is not UTF-8 at byte {error.start + 1}. Convert it to UTF-8.") from error
