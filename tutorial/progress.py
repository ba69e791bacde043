"""What a learner has done so far, in a small file beside the steps."""

import hashlib
import json
from dataclasses import dataclass, field

from max_gpt2._files import write_text
from tutorial.places import STEPS, progress_path, step_path


@dataclass
class Progress:
    """`passed` has, for each step that passed, the hash of the file that did; `hints` how many hints were read."""

    passed: dict[int, str] = field(default_factory=dict)
    hints: dict[int, int] = field(default_factory=dict)

    def done(self) -> list[int]:
        """Return the steps that passed and were not changed since."""
        return [number for number in range(1, STEPS + 1) if self.passed.get(number, "") == file_hash(number)]

    def changed(self) -> list[int]:
        """Return the steps that passed once, and are now others."""
        return sorted(set(self.passed) - set(self.done()))

    def next(self) -> int | None:
        """Return the first step that is not done, or None when all are."""
        done = self.done()
        return next((number for number in range(1, STEPS + 1) if number not in done), None)


def file_hash(number: int) -> str | None:
    """Return the SHA-256 of a learner's file, None when there is none."""
    path = step_path(number)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def read_progress() -> Progress:
    """Return what is remembered; of a file that is missing or damaged, nothing."""
    try:
        stored = json.loads(progress_path().read_text(encoding="utf-8"))
        passed = {int(number): str(one) for number, one in stored["passed"].items()}
        hints = {int(number): int(count) for number, count in stored["hints"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Progress()
    return Progress(passed, hints)


def write_progress(progress: Progress) -> None:
    """Store it; a reader sees the old file or the new one, never a half."""
    stored = {"passed": progress.passed, "hints": progress.hints}
    write_text(progress_path(), json.dumps(stored, indent=1, sort_keys=True) + "\n")
