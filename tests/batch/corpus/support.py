"""Inputs of corpus runs, and the content of their outputs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from max_gpt2.batch.corpus.drive import OnProgress, Progress


def write_texts(folder: Path, rows: int) -> Path:
    """Write rows of uneven lengths, some of them without a text, to two files of JSON lines; return the folder."""
    words = ["the", "lazy", "dog", "was", "it", "best", "of", "times"]
    lines = []
    for row in range(rows):
        text = None if row % 50 == 17 else " ".join(words[(row + n) % 7] for n in range(1 + row * 7 % 60))
        lines.append(json.dumps({"id": f"row {row}", "text": text}) + "\n")
    (folder / "a.jsonl").write_text("".join(lines[: rows // 3]))
    (folder / "b.jsonl").write_text("".join(lines[rows // 3 :]))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, the hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Display:
    """A display of progress that adds up what it is called with."""

    def __init__(self, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        self.rows, self.tokens, self.errors = 0, 0, list[str]()
        self._on_progress = on_progress

    @contextmanager
    def __call__(self, total: int, done: int) -> Iterator[OnProgress]:
        """Open the display."""

        def add(progress: Progress) -> None:
            self.rows += progress.rows
            self.tokens += progress.tokens
            self.errors += progress.errors
            self._on_progress(progress)

        yield add
