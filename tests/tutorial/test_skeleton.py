"""The skeletons: made by one rule from the solutions, committed as they are made, and clean."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tutorial import places
from tutorial.make_steps import make_steps
from tutorial.skeleton import is_untouched, skeleton, unfinished

NUMBERS = range(1, places.STEPS + 1)


def solution(number: int) -> str:
    return places.solution_path(number).read_text()


def committed(number: int) -> str:
    """The skeleton as git has it; a learner's file may well be in its place."""
    command = ["git", "show", f":{places.step_name(number)}"]
    return subprocess.run(command, cwd=places.ROOT, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("number", NUMBERS)
def test_a_step_is_what_the_rule_makes_of_its_solution(number: int) -> None:
    made = skeleton(solution(number), number)
    stored = (places.step_path(number).read_text(), committed(number))
    assert made in stored, "`make steps` makes them anew; if you commit your own work, leave this test out"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_skeleton_keeps_what_is_given_and_has_work_in_it(number: int) -> None:
    source, made = solution(number), skeleton(solution(number), number)
    kept = [line for line in source.splitlines() if line.startswith(("class ", "def ", "    def ", "@", "from max"))]
    assert set(kept) <= set(made.splitlines())
    assert made.count("# TODO") == len(unfinished(made)) > 0
    assert source.count('"""') == made.count('"""')
    assert "solutions" not in made
    assert not unfinished(source)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_rule_knows_its_own_skeletons_again(number: int) -> None:
    made = skeleton(solution(number), number)
    assert skeleton(made, number) == made
    assert is_untouched(made, number)
    assert not is_untouched(solution(number), number)
    assert not is_untouched(made.replace("raise NotImplementedError", "return 3 #", 1), number)
    assert not is_untouched(made + "(", number)


def test_the_rule_on_a_file_of_all_kinds() -> None:
    source = (
        "from solutions.solution_02 import mask\n\n\nclass A:\n    x: int = 3\n\n    def f(self) -> int:\n"
        '        """Say.\n\n        More.\n        """\n        # why\n'
        "        return mask(\n            1\n        )\n\n"
        '    def g(self) -> int:\n        """Given."""\n        ...\n\n\ndef h() -> int:\n    return 2\n'
    )
    assert skeleton(source, 7) == (
        "from steps.step_02 import mask\n\n\nclass A:\n    x: int = 3\n\n    def f(self) -> int:\n"
        '        """Say.\n\n        More.\n        """\n'
        "        # TODO: replace the line below; `make hint STEP=7` helps.\n"
        '        raise NotImplementedError("A.f")\n\n    def g(self) -> int:\n        """Given."""\n        ...\n\n\n'
        "def h() -> int:\n    # TODO: replace the line below; `make hint STEP=7` helps.\n"
        '    raise NotImplementedError("h")\n'
    )


def test_the_skeletons_are_clean(tmp_path: Path) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    shutil.copy(places.ROOT / "steps" / "__init__.py", folder)
    shutil.copy(places.ROOT / "pyproject.toml", tmp_path)
    for number in NUMBERS:
        (folder / places.step_path(number).name).write_text(skeleton(solution(number), number))
    unused = ["--ignore", "F401"]  # the imports are a hint of what to use
    for command in (
        ["ruff", "check", "--no-cache", "--config", "exclude=[]", *unused, "."],
        ["ruff", "format", "--no-cache", "--config", "exclude=[]", "--check", "."],
        ["mypy", "--cache-dir", str(places.ROOT / ".mypy_cache"), "steps"],  # `make lint` filled it
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


def test_making_the_steps_leaves_work_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(places.ROOT / "solutions", tmp_path / "solutions")
    (tmp_path / "steps").mkdir()
    monkeypatch.setattr(places, "ROOT", tmp_path)
    assert make_steps() == (list(NUMBERS), [])
    places.step_path(4).write_text("my_work = 1\n")
    places.step_path(5).write_text(places.step_path(5).read_text().replace("Look every id up", "An older text"))
    assert make_steps() == ([n for n in NUMBERS if n != 4], [4])
    assert places.step_path(4).read_text() == "my_work = 1\n"
    assert places.step_path(5).read_text() == skeleton(solution(5), 5)
