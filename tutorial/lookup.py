"""Where `from steps.step_05 import ...` finds its step: the learner's file when it passes, else the solution."""

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

from tutorial.places import STEPS, solution_path, step_path
from tutorial.skeleton import as_steps

MODULES = {f"steps.step_{number:02}": number for number in range(1, STEPS + 1)}


class StepLoader(SourceLoader):
    """Runs a file as a step. It reads the text each time: bytecode could be that of a version a moment older."""

    def __init__(self, path: Path) -> None:
        """Take the file, a learner's or a solution."""
        self.path = path

    def get_filename(self, fullname: str) -> str:
        """Return the file's name, which errors name."""
        return str(self.path)

    def get_data(self, path: bytes | str) -> bytes:
        """Return the file's text; a solution imports steps, so that the learner's work is in all that uses it."""
        return as_steps(Path(str(path)).read_text(encoding="utf-8")).encode()


class StepFinder(MetaPathFinder):
    """Finds the steps that are `own` in steps/, and all others in solutions/."""

    def __init__(self, own: Iterable[int]) -> None:
        """Take the numbers of the learner's steps."""
        self.own = frozenset(own)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a step is; of anything else the finder knows nothing."""
        number = MODULES.get(fullname)
        if number is None:
            return None
        place = step_path(number) if number in self.own else solution_path(number)
        return spec_from_loader(fullname, StepLoader(place))


def use_steps(own: Iterable[int]) -> None:
    """From now on, import these steps from the learner's files; forget what was imported before."""
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, StepFinder)]
    sys.meta_path.insert(0, StepFinder(own))
    for name in MODULES:
        sys.modules.pop(name, None)
