"""Start a step anew, and lose nothing."""

from pathlib import Path

from max_gpt2._files import write_text
from tutorial.places import backup_folder, check_number, solution_path, step_path
from tutorial.skeleton import skeleton


def reset_step(number: int) -> Path | None:
    """Put the skeleton in the place of a learner's file; return where a copy of it is, None when there was no file.

    Raises RequestError for a step that there is not.
    """
    check_number(number)
    path, copy = step_path(number), None
    if path.exists():
        backup_folder().mkdir(exist_ok=True)
        copy = _free(backup_folder() / path.name)
        copy.write_bytes(path.read_bytes())
    write_text(path, skeleton(solution_path(number).read_text(encoding="utf-8")))
    return copy


def _free(path: Path) -> Path:
    """Return a name that no file has: step_04.py, step_04.2.py, step_04.3.py."""
    free, count = path, 1
    while free.exists():
        count += 1
        free = path.with_suffix(f".{count}{path.suffix}")
    return free
