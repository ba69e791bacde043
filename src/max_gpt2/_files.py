"""Text that is JSON for every reader."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from max_gpt2.errors import RequestError


def check_writable(path: Path) -> None:
    """Raise RequestError when a file of this name cannot be written, before any work is done for it."""
    if path.is_dir():
        raise RequestError(f"{path} is a folder. Give the name of a file in it.")
    if not path.parent.is_dir():
        raise RequestError(f"There is no folder {path.parent} to write {path.name} into. Make it first.")
    if not os.access(path.parent, os.W_OK):
        raise RequestError(f"The folder {path.parent} may not be written to. Choose another place for {path.name}.")


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8 whole or not at all; raises RequestError when that fails."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            part = Path(file.name)
            try:
                file.write(text)
                file.close()
                part.chmod(0o666 & ~_umask())
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise RequestError(f"{path} could not be written ({error}). Choose another place.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


#: Line ends of Unicode, which JSON leaves as they are, and at which some readers of lines would cut.
_LINE_ENDS = {ord(one): f"\\u{ord(one):04x}" for one in "\x85\u2028\u2029"}


def json_text(value: Any) -> str:
    """Return a value as one line of JSON, which has no word for what is not finite: null stands for it."""
    text = json.dumps(_without_infinities(value), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can name and UTF-8 cannot hold
        return json.dumps(_without_infinities(value))
    return text.translate(_LINE_ENDS)


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinities(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_infinities(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
