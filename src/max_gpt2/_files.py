"""Write files atomically, and encode values as JSON."""

import json
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from max_gpt2.errors import RequestError


def check_writable(path: Path) -> None:
    """Raise RequestError if a file cannot be written to this path; call it before the work, not after."""
    if path.is_dir():
        raise RequestError(f"{path} is a folder. Give the path of a file.")
    if not path.parent.is_dir():
        raise RequestError(f"Cannot write {path}: the folder {path.parent} does not exist. Create it first.")
    if not os.access(path.parent, os.W_OK):
        raise RequestError(f"Cannot write {path}: the folder {path.parent} is not writable. Choose another folder.")


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, completely or not at all; raises RequestError when that fails."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            partial = Path(file.name)
            try:
                file.write(text)
                file.close()
                partial.chmod(0o666 & ~_umask())
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise RequestError(f"{path} could not be written ({error}). Choose another path.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def first_duplicate(names: Iterable[str]) -> str:
    """Return the first name that occurs for the second time; raises ValueError when there is none."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise ValueError("all names differ")


#: Unicode line separators. JSON does not require escaping them, but some programs end a line at them.
_LINE_ENDS = {ord(one): f"\\u{ord(one):04x}" for one in "\x85\u2028\u2029"}


def json_text(value: Any) -> str:
    """Return a value as one line of JSON; NaN and infinite numbers, which JSON does not have, become null."""
    text = json.dumps(_replace_nonfinite(value), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can escape but UTF-8 cannot encode
        return json.dumps(_replace_nonfinite(value))
    return text.translate(_LINE_ENDS)


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _replace_nonfinite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_replace_nonfinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
