"""The commands hint, solution, reset, progress and watch, without running any step."""

import shutil
from pathlib import Path

import pytest

from max_gpt2.cli.process import run_guarded
from tests.support.cli import Cli, Outcome
from tutorial import step_files
from tutorial.__main__ import app
from tutorial.exercises import exercise
from tutorial.learner_model import describe_origin
from tutorial.progress import Progress, file_hash, read_progress, saved_steps, write_progress
from tutorial.step_files import import_from_steps, is_untouched, reset_step, skeleton


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line of the tutorial, working on a copy of the steps."""
    for folder in ("solutions", "steps"):
        shutil.copytree(step_files.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(step_files, "ROOT", tmp_path)
    monkeypatch.setattr("tutorial.__main__.ROOT", tmp_path)
    for number in range(1, step_files.STEPS + 1):
        step_files.step_path(number).write_text(skeleton(step_files.solution_path(number).read_text()))

    def call(*arguments: object) -> Outcome:
        code = run_guarded(lambda: app([str(argument) for argument in arguments], standalone_mode=False))
        return Outcome(code, *capsys.readouterr())

    return call


def passed(*numbers: int) -> None:
    """Fill in steps and record them as passed."""
    progress = read_progress()
    for number in numbers:
        step_files.step_path(number).write_text(import_from_steps(step_files.solution_path(number).read_text()))
        progress.passed[number] = str(file_hash(number))
    write_progress(progress)


def test_each_hint_call_shows_the_next_hint(course: Cli) -> None:
    first, second, third = exercise(8).hints
    shown = [" ".join(course("hint", 8).out.split()) for _ in range(4)]
    assert first in shown[0]
    assert second not in shown[0]
    assert second in shown[1]
    assert third in shown[2]
    assert "make solution STEP=8" in shown[2]
    assert all(one in shown[3] for one in (first, second, third))
    assert exercise(1).hints[0] in " ".join(course("hint").out.split())  # the next step to do


def test_solution_asks_for_confirmation(course: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    source = step_files.solution_path(3).read_text()
    assert course("solution", 3).code == 2
    assert course("solution", 3, "--yes").out == source
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer in (True, False):
        monkeypatch.setattr("typer.confirm", lambda _text, answer=answer: answer)
        assert (course("solution", 3).out == source) == answer


def test_reset_keeps_every_backup(course: Cli) -> None:
    for text in ("my_first = 1\n", "my_second = 2\n", "my_third = 3\n"):
        step_files.step_path(4).write_text(text)
        assert course("reset", 4).code == 0
        assert is_untouched(step_files.step_path(4).read_text())
    backups = sorted(step_files.backup_folder().iterdir())
    assert sorted(one.read_text() for one in backups) == ["my_first = 1\n", "my_second = 2\n", "my_third = 3\n"]
    step_files.step_path(5).unlink()
    assert reset_step(5) is None
    assert is_untouched(step_files.step_path(5).read_text())
    assert course("reset", 15).code == 2


def test_progress_counts_unchanged_passed_steps(course: Cli) -> None:
    assert "0 of 14" in course("progress").out
    passed(1, 2, 3)
    shown = course("progress").out
    assert "███░░░░░░░░░░░ 3 of 14" in shown
    assert "Next: step 4" in shown
    step_files.step_path(2).write_text("changed = True\n")
    shown = course("progress").out
    assert "█░█░░░░░░░░░░░ 2 of 14" in shown
    assert "changed since it passed" in shown
    assert "Next: step 2" in shown
    passed(*range(1, 15))
    assert "All steps are done." in course("progress").out


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"passed": 3, "hints": {}}', '{"passed": {"x": 1}, "hints": {}}'])
def test_damaged_progress_file_counts_as_none(course: Cli, damaged: str) -> None:
    step_files.progress_path().write_text(damaged)
    assert read_progress() == Progress()
    assert "0 of 14" in course("progress").out


@pytest.mark.parametrize("number", [0, 15, -1])
def test_unknown_step_number_is_rejected(course: Cli, number: int) -> None:
    for command in ("check", "hint", "solution"):
        outcome = course(command, "--", number)
        assert outcome.code == 2
        assert "The steps are 1 to 14" in outcome.err


def test_saved_steps_yields_changed_files(course: Cli) -> None:
    del course
    edits = iter(
        [
            lambda: None,
            lambda: step_files.step_path(3).write_text("one\n"),
            lambda: step_files.step_path(3).write_text("one\n"),
            lambda: step_files.step_path(3).unlink(),
            lambda: [step_files.step_path(number).write_text("two\n") for number in (3, 9)],
        ]
    )

    def wait() -> None:
        next(edits)()

    saved = saved_steps(wait)
    step_files.step_path(5).write_text("saved at once\n")
    assert [next(saved) for _ in range(4)] == [5, 3, 3, 9]


def test_origin_lists_own_and_solved_steps() -> None:
    assert describe_origin(list(range(1, 15))) == "All 14 steps are yours."
    assert describe_origin([]).startswith("No step has passed yet")
    assert describe_origin([1, 2, 3, 5]) == (
        "Yours: steps 1 to 3 and 5. From solutions/, because they have not passed yet: steps 4 and 6 to 14."
    )
