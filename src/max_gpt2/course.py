"""The tutorial, for the commands that use a learner's model; it lives in the project's folder, not in the package."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from max_gpt2.errors import RequestError


def course(module: str) -> ModuleType:
    """Import a module of `tutorial/` from the folder in which the command runs; raises RequestError elsewhere."""
    here = Path.cwd()
    if not (here / "tutorial" / "mine.py").is_file():
        raise RequestError(
            f"--mine uses the model in steps/, and {here} is not the tutorial's folder. "
            "Go to the folder that `git clone` made."
        )
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    return importlib.import_module(f"tutorial.{module}")
