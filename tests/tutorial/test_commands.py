"""The smaller commands of the course: hint, solution, reset, progress."""

import shutil
from pathlib import Path

import pytest

from max_gpt2.cli.process import run_guarded
from tests.command_line import Cli, Outcome
from tutorial import places
from tutorial.__main__ import app
from tutorial.exercises import exercise
from tutorial.mine import whose
from tutorial.progress import Progress, file_hash, read_progress, write_progress
from tutorial.reset import reset_step
from tutorial.skeleton import as_steps, is_untouched, skeleton
from tutorial.watch import saved_steps


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The course's command line, on a copy of the steps."""
    for folder in ("solutions", "steps"):
        shutil.copytree(places.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr("tutorial.__main__.ROOT", tmp_path)
    for number in range(1, places.STEPS + 1):
        places.step_path(number).write_text(skeleton(places.solution_path(number).read_text()))

    def call(*arguments: object) -> Outcome:
        code = run_guarded(lambda: app([str(argument) for argument in arguments], standalone_mode=False))
        return Outcome(code, *capsys.readouterr())

    return call


def passed(*numbers: int) -> None:
    """Fill steps in and remember them as passed."""
    progress = read_progress()
    for number in numbers:
        places.step_path(number).write_text(as_steps(places.solution_path(number).read_text()))
        progress.passed[number] = str(file_hash(number))
    write_progress(progress)


def test_hints_say_more_and_more_and_are_remembered(course: Cli) -> None:
    first, second, third = exercise(8).hints
    shown = [" ".join(course("hint", 8).out.split()) for _ in range(4)]
    assert first in shown[0]
    assert second not in shown[0]
    assert second in shown[1]
    assert third in shown[2]
    assert "make solution STEP=8" in shown[2]
    assert all(one in shown[3] for one in (first, second, third))
    assert exercise(1).hints[0] in " ".join(course("hint").out.split())  # the next step to do


def test_the_solution_is_shown_after_a_question(course: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    source = places.solution_path(3).read_text()
    assert course("solution", 3).code == 2
    assert course("solution", 3, "--yes").out == source
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer in (True, False):
        monkeypatch.setattr("typer.confirm", lambda _text, answer=answer: answer)
        assert (course("solution", 3).out == source) == answer


def test_reset_keeps_every_copy(course: Cli) -> None:
    for text in ("my_first = 1\n", "my_second = 2\n", "my_third = 3\n"):
        places.step_path(4).write_text(text)
        assert course("reset", 4).code == 0
        assert is_untouched(places.step_path(4).read_text())
    backups = sorted(places.backup_folder().iterdir())
    assert sorted(one.read_text() for one in backups) == ["my_first = 1\n", "my_second = 2\n", "my_third = 3\n"]
    places.step_path(5).unlink()
    assert reset_step(5) is None
    assert is_untouched(places.step_path(5).read_text())
    assert course("reset", 15).code == 2


def test_progress_counts_what_passed_and_was_not_changed(course: Cli) -> None:
    assert "0 of 14" in course("progress").out
    passed(1, 2, 3)
    shown = course("progress").out
    assert "███░░░░░░░░░░░ 3 of 14" in shown
    assert "Next: step 4" in shown
    places.step_path(2).write_text("changed = True\n")
    shown = course("progress").out
    assert "█░█░░░░░░░░░░░ 2 of 14" in shown
    assert "changed since it passed" in shown
    assert "Next: step 2" in shown
    passed(*range(1, 15))
    assert "All of it is yours" in course("progress").out


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"passed": 3, "hints": {}}', '{"passed": {"x": 1}, "hints": {}}'])
def test_a_damaged_progress_is_an_empty_one(course: Cli, damaged: str) -> None:
    places.progress_path().write_text(damaged)
    assert read_progress() == Progress()
    assert "0 of 14" in course("progress").out


@pytest.mark.parametrize("number", [0, 15, -1])
def test_there_are_fourteen_steps(course: Cli, number: int) -> None:
    for command in ("check", "hint", "solution"):
        outcome = course(command, "--", number)
        assert outcome.code == 2
        assert "The steps are 1 to 14" in outcome.err


def test_only_what_changes_is_checked(course: Cli) -> None:
    del course
    edits = iter(
        [
            lambda: None,
            lambda: places.step_path(3).write_text("one\n"),
            lambda: places.step_path(3).write_text("one\n"),
            lambda: places.step_path(3).unlink(),
            lambda: [places.step_path(number).write_text("two\n") for number in (3, 9)],
        ]
    )

    def wait() -> None:
        next(edits)()

    saved = saved_steps(wait)
    places.step_path(5).write_text("saved at once\n")
    assert [next(saved) for _ in range(4)] == [5, 3, 3, 9]


def test_whose_the_steps_are() -> None:
    assert whose(list(range(1, 15))) == "All 14 steps are yours."
    assert whose([]).startswith("None of the steps is yours yet")
    assert whose([1, 2, 3, 5]) == (
        "Yours: steps 1 to 3 and 5. From solutions/, for they have not passed yet: steps 4 and 6 to 14."
    )
