"""The lines that were typed, kept in the user's state folder so that the arrow keys find them the next time."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_LINES = 1000


def history_file() -> Path:
    """Return where the lines are kept: below `XDG_STATE_HOME`, or else `~/.local/state`."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # which the XDG specification says to pass over
        state = Path(os.path.expanduser("~/.local/state"))  # noqa: PTH111  (Path's own raises where there is no home)
    return state / "max-gpt2" / "history"


class History:
    """Lines that the arrow keys find. Where they cannot be kept they are forgotten, and `problem` says why."""

    def __init__(self, file: Path) -> None:
        """Read what was kept, the last `MOST_LINES` of it."""
        self.problem = ""
        self._file = file
        self._readline = _readline()
        if not self._readline:
            self.problem = "This Python has no readline: there is no history, and no editing."
            return
        self._readline.set_auto_history(False)
        self._readline.clear_history()
        with self._noted():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)
            self._readline.read_history_file(file)
            if self._readline.get_current_history_length() > MOST_LINES:
                self._readline.set_history_length(MOST_LINES)
                self._readline.write_history_file(file)

    def add(self, line: str) -> None:
        """Keep a line, on the disk at once."""
        if self._readline and line.strip():
            self._readline.add_history(line)
            with self._noted():
                self._readline.append_history_file(1, self._file)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Note what cannot be read or written: it is a pity, and no reason to stop."""
        try:
            yield
        except OSError as error:
            self.problem = f"The history is not kept: {self._file} ({error.strerror or error})."


def _readline() -> Any:
    """Return the module, or None where Python was built without it."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None
