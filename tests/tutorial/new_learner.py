"""A new learner's way through the course, as commands and what they print.

`python -m tests.tutorial.new_learner` walks it on a copy of the project and writes docs/transcript.md.
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

from tutorial.places import ROOT, STEPS
from tutorial.skeleton import as_steps, skeleton

PAGE = ROOT / "docs" / "transcript.md"
INTRODUCTION = """# A new learner's way through the course

All fourteen steps, each checked as the skeleton it is at first and again once it is filled in (with the solution, where
a person would write their own), and then the learner's own model with the checkpoint that ships. The end-to-end test
walks the same way, with `python -m tutorial check 4` for `make check STEP=4`;
`python -m tests.tutorial.new_learner` made this page.
"""


@dataclass(frozen=True)
class Exchange:
    """A command, as a learner types it, and what came of it; `event` is what the learner did before."""

    event: str
    command: str
    code: int
    out: str
    err: str


class Learner:
    """Somebody with a copy of the project."""

    def __init__(self, folder: Path) -> None:
        """Copy what the course needs, the steps as they are at first."""
        self.folder = folder
        for name in ("tutorial", "solutions", "steps"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        shutil.copy(ROOT / "main.py", folder)
        for number in range(1, STEPS + 1):
            self.write(number, skeleton(self.solution(number)))

    def solution(self, number: int) -> str:
        return as_steps((self.folder / "solutions" / f"solution_{number:02}.py").read_text())

    def write(self, number: int, source: str) -> None:
        (self.folder / "steps" / f"step_{number:02}.py").write_text(source)

    def run(self, *arguments: object, event: str = "") -> Exchange:
        """Run Python with these arguments in the project."""
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
        """Run a command of the course."""
        return self.run("-m", "tutorial", *arguments, event=event)


def walk(learner: Learner, model: str) -> Iterator[Exchange]:
    """Check every skeleton, fill it in, check it again, and use the model that comes of it."""
    for number in range(1, STEPS + 1):
        yield learner.tutorial("check", number)
        learner.write(number, learner.solution(number))
        yield learner.tutorial("check", number, event=f"steps/step_{number:02}.py is filled in.")
    yield learner.tutorial("progress")
    yield learner.run("main.py", "--mine", "--model", model, "--max-new-tokens", 20)
    yield learner.run("-m", "max_gpt2", "verify", "--mine", "--model", model)


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [INTRODUCTION]
        for one in walk(Learner(Path(folder)), "demo"):
            if one.event:
                parts.append(one.event)
            command = one.command.replace("python -m max_gpt2", "max-gpt2")
            command = re.sub(r"^python -m tutorial check (\d+)$", r"make check STEP=\1", command)
            command = command.replace("python -m tutorial progress", "make progress")
            lines = "\n".join(_anywhere(line.rstrip()) for line in one.out.splitlines())
            parts.append(f"```text\n$ {command}\n{lines}\n```")
        PAGE.write_text("\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n")


def _anywhere(line: str) -> str:
    """Leave out where this project lies, and keep the columns of a table."""
    here = f"{ROOT}/"
    return line.replace(here, "").removesuffix(" │") + " " * len(here) + " │" if here in line else line


if __name__ == "__main__":
    main()
