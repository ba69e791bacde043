"""Where the course keeps its files."""

from pathlib import Path

from max_gpt2.errors import RequestError

ROOT = Path(__file__).resolve().parent.parent
STEPS = 14


def check_number(number: int) -> None:
    """Raise RequestError for a step that there is not."""
    if not 1 <= number <= STEPS:
        raise RequestError(f"There is no step {number}. The steps are 1 to {STEPS}.")


def solution_path(number: int) -> Path:
    """Return where the solution of a step is."""
    return ROOT / "solutions" / f"solution_{number:02}.py"


def step_path(number: int) -> Path:
    """Return where the learner writes a step."""
    return ROOT / "steps" / f"step_{number:02}.py"


def step_name(number: int) -> str:
    """Return the learner's file as messages name it: `steps/step_04.py`."""
    return f"steps/step_{number:02}.py"


def progress_path() -> Path:
    """Return the file that remembers what passed."""
    return ROOT / "steps" / ".progress.json"


def backup_folder() -> Path:
    """Return where the work goes that a fresh skeleton replaces."""
    return ROOT / "steps" / ".backup"
