"""The skeletons in steps/ are generated from the solutions, committed unchanged, and free of lint errors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tutorial import step_files
from tutorial.step_files import is_untouched, make_steps, skeleton, unfinished

NUMBERS = step_files.NUMBERS


def solution(number: int) -> str:
    return step_files.solution_path(number).read_text()


def committed(number: int) -> str:
    """Return the skeleton in the git index; the file itself may hold a learner's work."""
    command = ["git", "show", f":{step_files.step_name(number)}"]
    return subprocess.run(command, cwd=step_files.ROOT, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("number", NUMBERS)
def test_step_matches_its_solution(number: int) -> None:
    made = skeleton(solution(number))
    stored = (step_files.step_path(number).read_text(), committed(number))
    assert made in stored, "run `make steps`; deselect this test if you commit your own solutions"


@pytest.mark.parametrize("number", NUMBERS)
def test_skeleton_keeps_declarations_and_has_todos(number: int) -> None:
    source, made = solution(number), skeleton(solution(number))
    starts = ("class ", "def ", "    def ", "@", "from max")
    declarations = {line for line in source.splitlines() if line.startswith(starts)}
    assert declarations <= set(made.splitlines())
    assert made.count("# TODO") == len(unfinished(made)) > 0
    assert source.count('"""') == made.count('"""')
    assert "solutions.solution_" not in made
    assert not unfinished(source)


@pytest.mark.parametrize("number", NUMBERS)
def test_skeleton_is_idempotent_and_edits_are_detected(number: int) -> None:
    made = skeleton(solution(number))
    assert skeleton(made) == made
    assert is_untouched(made)
    assert not is_untouched(solution(number))
    assert not is_untouched(made.replace("raise NotImplementedError", "return 3 #", 1))
    assert not is_untouched(made + "(")


def test_skeleton_replaces_bodies_but_not_declarations() -> None:
    source = (
        "from solutions.solution_02 import mask\n\n\nclass A:\n    x: int = 3\n\n    def f(self) -> int:\n"
        '        """Say.\n\n        More.\n        """\n        # why\n'
        "        return mask(\n            1\n        )\n\n"
        '    def g(self) -> int:\n        """Given."""\n        ...\n\n\ndef h() -> int:\n    return 2\n'
    )
    assert skeleton(source) == (
        "from steps.step_02 import mask\n\n\nclass A:\n    x: int = 3\n\n    def f(self) -> int:\n"
        '        """Say.\n\n        More.\n        """\n'
        "        # TODO: replace the line below.\n"
        '        raise NotImplementedError("A.f")\n\n    def g(self) -> int:\n        """Given."""\n        ...\n\n\n'
        "def h() -> int:\n    # TODO: replace the line below.\n"
        '    raise NotImplementedError("h")\n'
    )


def test_skeletons_pass_lint_and_type_checks(tmp_path: Path) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    shutil.copy(step_files.ROOT / "steps" / "__init__.py", folder)
    shutil.copy(step_files.ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "solutions").symlink_to(step_files.ROOT / "solutions")  # steps import solutions/pretrained.py
    for number in NUMBERS:
        (folder / step_files.step_path(number).name).write_text(skeleton(solution(number)))
    unused = ["--ignore", "F401"]  # skeletons import what the solution uses
    for command in (
        ["ruff", "check", "--no-cache", "--config", "exclude=[]", *unused, "."],
        ["ruff", "format", "--no-cache", "--config", "exclude=[]", "--check", "."],
        ["mypy", "--cache-dir", str(step_files.ROOT / ".mypy_cache"), "steps"],  # `make lint` filled it
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_make_steps_preserves_edited_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(step_files.ROOT / "solutions", tmp_path / "solutions")
    (tmp_path / "steps").mkdir()
    monkeypatch.setattr(step_files, "ROOT", tmp_path)
    assert make_steps() == (list(NUMBERS), [])
    step_files.step_path(4).write_text("my_work = 1\n")
    older = step_files.step_path(5).read_text().replace("Look up each id", "Look up every id")
    assert older != skeleton(solution(5))
    step_files.step_path(5).write_text(older)  # a skeleton made from an older solution is not the learner's work
    assert make_steps() == ([n for n in NUMBERS if n != 4], [4])
    assert step_files.step_path(4).read_text() == "my_work = 1\n"
    assert step_files.step_path(5).read_text() == skeleton(solution(5))
