"""Run all commands of the tutorial in order, as a new learner would, and record their output.

`python -m tests.tutorial.new_learner` runs them on a copy of the project and writes docs/transcript.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tutorial.step_files import ROOT, STEPS, import_from_steps, skeleton

PAGE = ROOT / "docs" / "transcript.md"
INTRODUCTION = """# Transcript of the tutorial

This page shows the output of the commands of the tutorial. Each of the fourteen steps is checked
twice: as an empty skeleton, and after it is filled in (here with the solution; a learner would
write their own code). At the end, the demo checkpoint is loaded into the finished model.

`python -m tests.tutorial.new_learner` generates this page. The end-to-end test runs the same
commands, with `python -m tutorial check 4` instead of `make check STEP=4`.
"""


@dataclass(frozen=True)
class Exchange:
    """A command and its output; `event` describes the learner's action before it, if any."""

    event: str
    command: str
    code: int
    out: str
    err: str


class Learner:
    """A learner with a copy of the project."""

    def __init__(self, folder: Path) -> None:
        """Copy the files that the tutorial needs, with skeletons as steps."""
        self.folder = folder
        for name in ("tutorial", "solutions", "steps"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for name in ("main.py", "main_tables.py"):
            shutil.copy(ROOT / name, folder)
        for number in range(1, STEPS + 1):
            self.write(number, skeleton(self.solution(number)))

    def solution(self, number: int) -> str:
        return import_from_steps((self.folder / "solutions" / f"solution_{number:02}.py").read_text())

    def write(self, number: int, source: str) -> None:
        (self.folder / "steps" / f"step_{number:02}.py").write_text(source)

    def run(self, *arguments: object, event: str = "") -> Exchange:
        """Run Python with these arguments in the copy."""
        words = [str(one) for one in arguments]
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=dict(os.environ) | {"COLUMNS": "110"},
            check=False,
        )
        return Exchange(event, " ".join(["python", *words]), done.returncode, done.stdout, done.stderr)

    def tutorial(self, *arguments: object, event: str = "") -> Exchange:
        """Run a command of the tutorial."""
        return self.run("-m", "tutorial", *arguments, event=event)


def walk(learner: Learner, model: str) -> Iterator[Exchange]:
    """Check every skeleton, fill it in, check it again, and use the finished model."""
    for number in range(1, STEPS + 1):
        yield learner.tutorial("check", number)
        learner.write(number, learner.solution(number))
        yield learner.tutorial("check", number, event=f"steps/step_{number:02}.py is filled in.")
    yield learner.tutorial("progress")
    yield learner.run("main.py", "--learner-model", "--model", model, "--max-new-tokens", 20)
    yield learner.tutorial("verify", "--model", model)


def main() -> None:
    """Write docs/transcript.md."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [INTRODUCTION]
        for one in walk(Learner(Path(folder)), "demo"):
            if one.event:
                parts.append(one.event)
            command = re.sub(r"^python -m tutorial check (\d+)$", r"make check STEP=\1", one.command)
            command = command.replace("python -m tutorial progress", "make progress")
            lines = "\n".join(_without_root(line.rstrip()) for line in one.out.splitlines())
            parts.append(f"```text\n$ {command}\n{lines}\n```")
        PAGE.write_text("\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n")


def _without_root(line: str) -> str:
    """Remove the path of the project from a line of a table, and keep the columns aligned."""
    here = f"{ROOT}/"
    return line.replace(here, "").removesuffix(" │") + " " * len(here) + " │" if here in line else line


if __name__ == "__main__":
    main()
