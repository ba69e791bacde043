"""Run the commands of the documentation in a copy of the project, as a reader would."""

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
from tests.support.until import run_until
from tutorial.step_files import NUMBERS, import_from_steps, parse_number, solution_path, step_path

#: Commands that run until they are stopped, with the output that shows that they are ready.
ENDLESS = {
    "make watch": "Watching steps/",
    "make book": "Serving on http://127.0.0.1",
}
#: Commands that take minutes or hours: the tests only check that they exist and run their programs with `--help`.
LONG = (
    *("test", "lint", "fuzz", "bench", "bench-peers", "bench-score", "bench-corpus", "bench-load"),
    *("verify-sizes", "zoo", "train-demo"),
)
#: Commands that tests/test_project.py runs offline, with a filled cache.
ELSEWHERE = ("demo", "huggingface")
#: Commands that are tested for one step only; tests/tutorial covers all steps.
EACH_STEP = ("check", "hint", "reset")
#: The programs that may occur on the pages; any other program fails the test.
PROGRAMS = ("echo", "make", "max-gpt2", "python", ".venv/bin/python")
#: The width of the terminal in which a page shows the output of a command.
WIDTH = 80
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")


class UnknownCommandError(Exception):
    """A page contains a command that the tests cannot run."""


@dataclass
class Reader:
    """A reader in a copy of the project with all steps filled in; `hub` is the value of HF_HOME."""

    folder: Path
    hub: Path
    help: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Copy the project; its `.venv` links to the environment that runs the tests."""
        shutil.copytree(ROOT, self.folder, ignore=_LEFT_OUT, dirs_exist_ok=True)
        (self.folder / ".venv").symlink_to(ROOT / ".venv")
        for number in NUMBERS:
            self.fill_in(number)
        self.variables = os.environ | {
            "HF_HOME": str(self.hub),
            "COLUMNS": "110",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def fill_in(self, number: int) -> None:
        """Write the solution into a step."""
        source = import_from_steps((self.folder / "solutions" / solution_path(number).name).read_text())
        (self.folder / "steps" / step_path(number).name).write_text(source)

    def type(self, command: str) -> str:
        """Run a command, or only start or `--help` it if it takes long; raise AssertionError if it fails.

        Returns the standard output of a command that was run to its end, and otherwise an empty string.
        """
        words = command.split()
        if words[0] not in PROGRAMS:
            raise UnknownCommandError(f"A page contains {command!r}, which tests/book/reader.py cannot run.")
        if step := re.search(r"\bSTEP=(\S+)", command):
            self.fill_in(parse_number(step[1]))
        ready = next((line for start, line in ENDLESS.items() if f"{command} ".startswith(f"{start} ")), None)
        if ready:
            out = run_until(command, self.folder, self.variables, ready)
            assert ready in out, f"{command}:\n{out}"
        elif words[0] == "make" and words[1] in LONG + ELSEWHERE:
            for program in re.findall(r"python ((?:-m )?\S+)", self.recipe(command)):
                self.help_text(f"python {program}")
        elif "--learner-model" in words or words[:4] == ["python", "-m", "tutorial", "verify"]:
            # tests/tutorial runs these two commands
            assert "Usage:" in self.help_text(command.split(" --")[0].removeprefix(".venv/bin/"))
        elif words[0] == "max-gpt2" and not set("|<>") & set(command):
            return self.in_this_process(shlex.split(command)[1:])
        else:
            return self.succeed(command)
        return ""

    def in_this_process(self, arguments: list[str]) -> str:
        """Run max-gpt2 in this process, where MAX and PyTorch are imported; return its standard output.

        Raises AssertionError if it fails.
        """
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr("max_gpt2.cli.console.stdout._width", WIDTH)
            patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(self.hub / "hub"))
            code = run_guarded(lambda: app(arguments, standalone_mode=False))
        printed = f"{out.getvalue()}\n{err.getvalue()}"
        assert code == 0, f"max-gpt2 {' '.join(arguments)}: exit code {code}\n{printed}"
        return out.getvalue()

    def succeed(self, command: str) -> str:
        """Run a command and return its output; raise AssertionError unless its exit code is 0."""
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

    def help_text(self, program: str) -> str:
        """Return the `--help` of a program, running it only once."""
        if program not in self.help:
            self.help[program] = self.succeed(f"{program} --help")
        return self.help[program]

    def recipe(self, command: str) -> str:
        """Return the lines that make would run; raise AssertionError if there is no such target."""
        lines = self.succeed(f"{command} --dry-run")
        assert ".venv/bin/pip" not in lines, ".venv is older than requirements.lock or pyproject.toml: run make demo"
        return lines

    def kind(self, command: str) -> str:
        """Return a key that equivalent commands share; only one command for each key has to run."""
        words = command.split()
        if words[0] != "make":
            return command
        recipe = self.recipe(command)
        return re.sub(r"(?<= )\d+\b", "STEP", recipe) if words[1] in EACH_STEP else recipe
