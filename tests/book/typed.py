"""What a reader types: the commands of the book, run in a learner's copy of the project."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from max_gpt2.cli.app import app
from max_gpt2.cli.process import run_guarded
from tests.book.pages import ROOT
from tests.endless import until_said
from tutorial.step_files import STEPS, import_from_steps

#: What goes on until it is ended, and what it says when it is ready.
ENDLESS = {
    "make watch": "Watching steps/",
    "make book": "Serving on http://127.0.0.1",
}
#: What takes minutes or hours. It is shown to be there, and what it would run answers to `--help`.
LONG = ("test", "lint", "fuzz", "bench", "bench-peers", "bench-load", "verify-sizes", "zoo", "train-demo")
#: What tests/test_project.py runs, with a network that is off and a cache that is filled.
ELSEWHERE = ("demo", "huggingface")
#: What is run for one step, since the way of a new learner in tests/tutorial goes through all of them.
EACH_STEP = ("check", "hint", "reset")
#: What a reader starts. Anything else in the book fails its test until somebody says here how to run it.
PROGRAMS = ("echo", "make", "max-gpt2", "python", ".venv/bin/python")
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")


class UnknownCommandError(Exception):
    """A command that no test knows how to run."""


@dataclass
class Reader:
    """Somebody at the root of a copy of the project, who has filled in every step; `hub` is their HF_HOME."""

    folder: Path
    hub: Path
    help: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Copy the project; `.venv` is the one that runs the tests."""
        shutil.copytree(ROOT, self.folder, ignore=_LEFT_OUT, dirs_exist_ok=True)
        (self.folder / ".venv").symlink_to(ROOT / ".venv")
        for number in range(1, STEPS + 1):
            self.fill_in(number)
        self.variables = os.environ | {
            "HF_HOME": str(self.hub),
            "COLUMNS": "110",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def fill_in(self, number: int) -> None:
        """Write the solution into a step."""
        source = import_from_steps((self.folder / "solutions" / f"solution_{number:02}.py").read_text())
        (self.folder / "steps" / f"step_{number:02}.py").write_text(source)

    def type(self, command: str) -> None:
        """Run a command as far as a test can wait for it; raises AssertionError unless it goes well."""
        words = command.split()
        if words[0] not in PROGRAMS:
            raise UnknownCommandError(f"The book has {command!r}, and tests/book/typed.py does not know how to run it.")
        if step := re.search(r"\bSTEP=(\d+)", command):
            self.fill_in(int(step[1]))
        said = next((said for start, said in ENDLESS.items() if f"{command} ".startswith(f"{start} ")), None)
        if said:
            out = until_said(command, self.folder, self.variables, said)
            assert said in out, f"{command}:\n{out}"
        elif words[0] == "make" and words[1] in LONG + ELSEWHERE:
            for program in re.findall(r"python ((?:-m )?\S+)", self.recipe(command)):
                self.explained(f"python {program}")
        elif "--learner-model" in words or words[:4] == ["python", "-m", "tutorial", "verify"]:
            # tests/tutorial runs these two commands
            assert "Usage:" in self.explained(command.split(" --")[0].removeprefix(".venv/bin/"))
        elif words[0] == "max-gpt2" and not set("|<>") & set(command):
            self.in_this_process(shlex.split(command)[1:])
        else:
            self.succeed(command)

    def in_this_process(self, arguments: list[str]) -> None:
        """Run max-gpt2 where MAX and PyTorch are imported already; raises AssertionError as `succeed` does."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(self.hub / "hub"))
            code = run_guarded(lambda: app(arguments, standalone_mode=False))
        said = f"{out.getvalue()}\n{err.getvalue()}"
        assert code == 0, f"max-gpt2 {' '.join(arguments)}: exit code {code}\n{said}"

    def succeed(self, command: str) -> str:
        """Run a command, which has to end with exit code 0; return what it printed."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def explained(self, program: str) -> str:
        """Return what a program says of itself; it is asked once."""
        if program not in self.help:
            self.help[program] = self.succeed(f"{program} --help")
        return self.help[program]

    def recipe(self, command: str) -> str:
        """Return the lines that make would run; raises AssertionError when there is no such target."""
        lines = self.succeed(f"{command} --dry-run")
        assert ".venv/bin/pip" not in lines, ".venv is older than requirements.lock or pyproject.toml: run make demo"
        return lines

    def kind(self, command: str) -> str:
        """Return what two commands have in common of which only one needs to be run."""
        words = command.split()
        if words[0] != "make":
            return command
        recipe = self.recipe(command)
        return re.sub(r"(?<= )\d+\b", "STEP", recipe) if words[1] in EACH_STEP else recipe
