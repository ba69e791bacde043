"""Every skeleton fails its check, every solution passes, and every mistake gets its own diagnosis."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from max._interpreter_ops import gc_compile

from tests.tutorial.planted import PLANTED, Planted
from tutorial import places
from tutorial.check import check, make_plan
from tutorial.checking import check_task
from tutorial.diagnosis import judge, known_mistake
from tutorial.exercises import exercise
from tutorial.exercises.exercise_13 import check_another_length
from tutorial.exercises.exercise_14 import sharp
from tutorial.lookup import StepFinder
from tutorial.operations import compile_operations
from tutorial.problem import WrongAnswerError
from tutorial.progress import Progress, read_progress
from tutorial.reading import read_step
from tutorial.skeleton import as_steps, skeleton
from tutorial.verdict import Verdict
from tutorial.worker import Task
from tutorial.workshop import Told, Workshop

NUMBERS = range(1, places.STEPS + 1)
MISTAKES = [(number, mistake) for number in NUMBERS for mistake in exercise(number).mistakes]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A learner's copy of the course, in which steps are found."""
    for folder in ("solutions", "steps"):
        shutil.copytree(places.ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(places, "ROOT", tmp_path)
    yield tmp_path
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, StepFinder)]
    for name in [name for name in sys.modules if name.startswith("steps.")]:
        del sys.modules[name]


class InThisProcess(Workshop):
    def check(self, task: Task, told: Told) -> Verdict:
        return check_task(task, told)


def solution(number: int) -> str:
    return as_steps(places.solution_path(number).read_text())


def answered(number: int, source: str) -> Verdict:
    places.step_path(number).write_text(source)
    return check_task(Task(number, frozenset()), lambda part: None)


@pytest.fixture
def compiled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to compile an operation by itself."""
    compile_operations()

    def refuse(_family: object, key: str, *_rest: object) -> NoReturn:
        raise AssertionError(f"{key} is compiled by itself, which takes ten seconds: add it to tutorial/operations.py")

    monkeypatch.setattr(gc_compile, "compile_single_target", refuse)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.usefixtures("compiled_together")
def test_the_skeleton_fails_and_the_solution_passes(project: Path, number: int) -> None:
    places.step_path(number).write_text(skeleton(solution(number)))
    with pytest.raises(WrongAnswerError, match="work left"):
        read_step(exercise(number))
    unfinished = check_task(Task(number, frozenset()), lambda part: None)
    assert not unfinished.passed
    assert "NotImplementedError" in unfinished.text
    places.step_path(number).write_text(solution(number))
    read_step(exercise(number))
    verdict = check_task(Task(number, frozenset()), lambda part: None)
    assert verdict.passed, verdict.text


def test_what_is_drawn_from_the_sharp_model_is_its_likeliest_token() -> None:
    second, first = np.sort(sharp().table, axis=1)[:, -2:].T
    assert (first - second).min() > 30  # e ** -30 is how often another one is drawn


@pytest.mark.parametrize("planted", PLANTED, ids=lambda one: f"{one.step} {one.mistake}")
def test_a_planted_mistake_is_named(project: Path, planted: Planted) -> None:
    source = solution(planted.step)
    assert source.count(planted.right) == 1
    edited = source.replace(planted.right, planted.wrong)
    if planted.mistake == "mask late":
        edited = edited.replace("F.softmax(scores)", "F.softmax(scores) + causal_mask(seq)")
    assert answered(planted.step, edited) == Verdict(False, exercise(planted.step).mistakes[planted.mistake])


def test_most_mistakes_are_planted() -> None:
    planted = {(one.step, one.mistake) for one in PLANTED}
    assert planted <= set(MISTAKES)
    assert len(planted) == len(PLANTED) > 100
    assert {step for step, _ in planted} == set(NUMBERS)


@pytest.mark.parametrize(("number", "mistake"), MISTAKES)
def test_what_a_mistake_gives_is_told_from_what_is_right_and_from_the_others(number: int, mistake: str) -> None:
    one = exercise(number)
    observed = one.expected() | one.expected(frozenset({mistake}))
    assert known_mistake(one, observed) == mistake
    assert judge(one, observed) == Verdict(False, one.mistakes[mistake])


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_are_wrong_in_an_unknown_way_are_shown(number: int) -> None:
    one = exercise(number)
    observed = one.expected()
    assert judge(one, observed).passed
    name, right = next((name, array) for name, array in observed.items())
    if right.dtype.kind == "f":
        wrong = np.where(np.isfinite(right), right + 0.37, right).astype(right.dtype)
    elif right.dtype.kind == "i":
        wrong = right + 1
    else:
        wrong = np.array("strange")
    found = judge(one, observed | {name: wrong})
    assert not found.passed
    assert found.text.startswith(name)
    assert found.text not in one.mistakes.values()


@pytest.mark.parametrize("answer", [lambda ids: ids[:0], lambda ids: 1 / 0, lambda ids: np.zeros((2, 7, 37))])
def test_a_model_compiled_for_one_length_is_named(answer: Callable[[np.ndarray], Any]) -> None:
    ids = np.zeros((2, 7), dtype=np.int64)
    check_another_length(lambda ids: np.zeros((*ids.shape, 37)), ids)
    with pytest.raises(WrongAnswerError, match=r"ids of \[2, 7\] and not on ids of \[1, 5\]"):
        check_another_length(answer, ids)


def test_a_mask_that_the_compiler_loses_is_named(project: Path) -> None:
    places.step_path(2).write_text(
        "from max.dtype import DType\nfrom max.experimental import functional as F\n"
        "from max.experimental.tensor import Tensor\n\n\ndef causal_mask(seq):\n"
        "    places = F.range(0, Tensor.from_dim(seq), 1, out_dim=seq, dtype=DType.int64)\n"
        "    hidden, seen = Tensor(float('-inf'), dtype=DType.float32), Tensor(0.0, dtype=DType.float32)\n"
        "    return F.where(F.unsqueeze(places, 0) > F.unsqueeze(places, 1), hidden, seen)\n"
    )
    assert check_task(Task(2, frozenset({2})), lambda part: None).passed
    for number in (8, 13):
        places.step_path(number).write_text(solution(number))
    assert check_task(Task(8, frozenset({2})), lambda part: None).passed
    assert check_task(Task(13, frozenset({2, 8})), lambda part: None) == Verdict(
        False, exercise(13).mistakes["no mask"]
    )


@pytest.mark.parametrize(
    ("number", "right", "wrong", "says"),
    [
        (4, "return self.c_proj(x)", "return self.c_proj(x", "Python cannot read line 26 of steps/step_04.py"),
        (4, "import Linear, Module", "import Module", "An import is missing: from max.experimental.nn import Linear"),
        (4, "from max.experimental import functional as F", "import maxx", "There is no module maxx to import."),
        (4, "return self.c_proj(x)", "print(self.c_proj(x))", "An answer that is printed is not returned"),
        (4, "return self.c_proj(x)", "raise SystemExit(0)", "The step ends the whole program"),
        (4, "return self.c_proj(x)", "return self.forward(self.c_proj(x))", "A function calls itself without end"),
        (4, "class GPT2MLP", "class MLP", "steps/step_04.py does not define GPT2MLP"),
        (4, "self.c_fc = Linear(config.n_embd, intermediate_size", "self.fc = Linear(config.n_embd, intermediate_size",
         "GPT2MLP has no parameter c_fc.weight, c_fc.bias."),
        (4, "Linear(config.n_embd, intermediate_size", "Linear(intermediate_size, config.n_embd",
         "[n_embd=20, n_inner=44] and should be [n_inner=44, n_embd=20]. That is its transpose"),
        (5, "Tensor.zeros([config.vocab_size, config.n_embd])", "Tensor.zeros([config.n_embd, config.vocab_size])",
         "and should be [vocab=37, n_embd=20]. That is its transpose."),
        (9, "return self.c_proj(self.merge_heads(found))", "return self.c_proj(found)", "found is [batch, 4, seq, 5]"),
        (6, "Tensor.from_dim(seq)", "int(seq)", "A length is used as a number that is only a name here"),
        (14, "return rows", "return rows.tolist()", "returned a list, where a numpy array is wanted"),
        (7, "return query, key, value", "return query, key", "3 results are wanted, query, key, value"),
    ],
)  # fmt: skip
def test_what_cannot_run_gets_a_sentence(project: Path, number: int, right: str, wrong: str, says: str) -> None:
    source = solution(number)
    assert right in source
    places.step_path(number).write_text(source.replace(right, wrong))
    verdict = check(make_plan(number, read_progress()), InThisProcess())
    assert not verdict.passed
    assert says in verdict.text
    assert not read_progress().passed


def test_a_wrong_shape_is_shown_with_the_names_of_its_lengths() -> None:
    one = exercise(4)
    found = judge(one, {"y": np.zeros((2, 7, 44), dtype=np.float32)})
    assert found.text == ("y has the shape [batch=2, seq=7, n_inner=44] and should have [batch=2, seq=7, n_embd=20].")
    assert "NaN" in judge(one, {"y": np.full((2, 7, 20), np.nan, dtype=np.float32)}).text


@pytest.mark.parametrize("number", NUMBERS)
def test_no_hint_gives_a_line_of_the_solution_away(number: int) -> None:
    given = set(skeleton(solution(number)).splitlines())
    lines = [line.split("  #")[0].strip() for line in solution(number).splitlines() if line not in given]
    hints = " ".join(exercise(number).hints)
    assert len(exercise(number).hints) == 3
    assert not [line for line in lines if len(line) > 12 and line.rstrip(":") in hints]


def test_earlier_steps_are_the_learners_when_they_pass(project: Path) -> None:
    plan = make_plan(4, Progress())
    assert (plan.own, plan.solved) == ((), (1,))
    places.step_path(1).write_text(solution(1).replace("4 * self.n_embd", "5 * self.n_embd"))
    places.step_path(11).write_text(solution(11).replace("config.n_inner or 4 * config.n_embd", "config.no_such"))
    verdict = check_task(Task(11, frozenset({1})), lambda part: None)
    assert "no attribute 'no_such'" in verdict.text
    assert "your steps/step_11.py" in verdict.text
