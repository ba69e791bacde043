"""A learner's progress, stored in a small JSON file beside the steps, and the detection of saved files."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from max_gpt2._files import write_text
from tutorial.step_files import NUMBERS, STEPS, progress_path, step_path

POLL_INTERVAL = 0.3  # seconds


@dataclass
class Progress:
    """The hash of each file that passed its check, and the number of hints shown for each step."""

    passed: dict[int, str] = field(default_factory=dict)
    hints: dict[int, int] = field(default_factory=dict)

    def done(self) -> list[int]:
        """Return the steps, and the exercises of "Look inside", that passed and have not changed since."""
        return [number for number in NUMBERS if self.passed.get(number, "") == file_hash(number)]

    def changed(self) -> list[int]:
        """Return the steps that passed and have changed since."""
        return sorted(set(self.passed) - set(self.done()))

    def next(self) -> int | None:
        """Return the first step that is not done, or None when all are."""
        done = self.done()
        return next((number for number in range(1, STEPS + 1) if number not in done), None)


def file_hash(number: int) -> str | None:
    """Return the SHA-256 of a learner's file, or None if it does not exist."""
    path = step_path(number)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def read_progress() -> Progress:
    """Return the stored progress, or no progress if the file is missing or damaged."""
    try:
        stored = json.loads(progress_path().read_text(encoding="utf-8"))
        passed = {int(number): str(hashed) for number, hashed in stored["passed"].items()}
        hints = {int(number): int(count) for number, count in stored["hints"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Progress()
    return Progress(passed, hints)


def write_progress(progress: Progress) -> None:
    """Store the progress atomically."""
    stored = {"passed": progress.passed, "hints": progress.hints}
    write_text(progress_path(), json.dumps(stored, indent=1, sort_keys=True) + "\n")


def saved_steps(wait: Callable[[], None] = lambda: time.sleep(POLL_INTERVAL)) -> Iterator[int]:
    """Yield the number of each step that changes after this call, without end; call `wait` before each poll."""
    return _changes_since(_hashes(), wait)  # hash the files now, not at the first `next`


def _changes_since(seen: dict[int, str | None], wait: Callable[[], None]) -> Iterator[int]:
    while True:
        wait()
        now = _hashes()
        yield from (number for number, hashed in now.items() if hashed and hashed != seen[number])
        seen = now


def _hashes() -> dict[int, str | None]:
    return {number: file_hash(number) for number in NUMBERS}
