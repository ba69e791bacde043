"""Every skeleton fails its check, every solution passes, and every known mistake gets its own diagnosis."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from max._interpreter_ops import gc_compile
from max.experimental.nn import Module

from max_gpt2.model.interpreter_ops import compile_operations
from solutions.pretrained import PretrainedModel, accepts_tensors
from tests.tutorial.planted import PLANTED, Planted
from tutorial import step_files
from tutorial.check import check, make_plan
from tutorial.diagnosis import judge, known_mistake
from tutorial.exercise import Verdict, WrongAnswerError
from tutorial.exercises import exercise
from tutorial.exercises.exercise_13 import check_given_code, check_other_inputs
from tutorial.exercises.exercise_14 import peaked_model
from tutorial.inputs import token_ids
from tutorial.progress import Progress, read_progress
from tutorial.step_files import import_from_steps, skeleton
from tutorial.step_loader import StepFinder, read_step
from tutorial.worker import OnPhase, Task, Worker, check_task

NUMBERS = range(1, step_files.STEPS + 1)
#: Step 13 compiles the whole model.
STEPS = [pytest.param(number, marks=pytest.mark.slow if number == 13 else ()) for number in NUMBERS]
PLANTED_CASES = [
    pytest.param(one, id=f"{one.step} {one.mistake}", marks=pytest.mark.slow if one.compiles else ()) for one in PLANTED
]
MISTAKES = [(number, mistake) for number in NUMBERS for mistake in exercise(number).mistakes]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the tutorial from which steps are imported."""
    for folder in ("solutions", "steps"):
        shutil.copytree(step_files.ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(step_files, "ROOT", tmp_path)
    yield tmp_path
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, StepFinder)]
    for name in [name for name in sys.modules if name.startswith("steps.")]:
        del sys.modules[name]


class SameProcessWorker(Worker):
    def check(self, task: Task, on_phase: OnPhase) -> Verdict:
        return check_task(task, on_phase)


def solution(number: int) -> str:
    return import_from_steps(step_files.solution_path(number).read_text())


def answered(number: int, source: str) -> Verdict:
    step_files.step_path(number).write_text(source)
    return check_task(Task(number, frozenset()), lambda phase: None)


@pytest.fixture
def compiled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test when an operation is compiled on its own."""
    compile_operations()

    def refuse(_family: object, key: str, *_rest: object) -> NoReturn:
        raise AssertionError(f"{key} is compiled on its own, which takes ten seconds: add it to interpreter_ops.py")

    monkeypatch.setattr(gc_compile, "compile_single_target", refuse)


@pytest.mark.parametrize("number", STEPS)
@pytest.mark.usefixtures("compiled_together")
def test_skeleton_fails_and_solution_passes(project: Path, number: int) -> None:
    step_files.step_path(number).write_text(skeleton(solution(number)))
    with pytest.raises(WrongAnswerError, match="is not finished"):
        read_step(exercise(number))
    unfinished = check_task(Task(number, frozenset()), lambda phase: None)
    assert not unfinished.passed
    assert "NotImplementedError" in unfinished.text
    step_files.step_path(number).write_text(solution(number))
    read_step(exercise(number))
    verdict = check_task(Task(number, frozenset()), lambda phase: None)
    assert verdict.passed, verdict.text


def test_peaked_model_always_samples_its_most_likely_token() -> None:
    second, first = np.sort(peaked_model().table, axis=1)[:, -2:].T
    assert (first - second).min() > 30  # the probability of any other token is below e ** -30


@pytest.mark.parametrize("planted", PLANTED_CASES)
def test_planted_mistake_is_diagnosed(project: Path, planted: Planted) -> None:
    source = solution(planted.step)
    assert source.count(planted.right) == 1
    edited = source.replace(planted.right, planted.wrong)
    if planted.mistake == "mask late":
        edited = edited.replace("F.softmax(scores)", "F.softmax(scores) + causal_mask(seq)")
    assert answered(planted.step, edited) == Verdict(False, exercise(planted.step).mistakes[planted.mistake])


def test_most_known_mistakes_are_planted() -> None:
    planted = {(one.step, one.mistake) for one in PLANTED}
    assert planted <= set(MISTAKES)
    assert len(planted) == len(PLANTED) > 100
    assert {step for step, _ in planted} == set(NUMBERS)


@pytest.mark.parametrize(("number", "mistake"), MISTAKES)
def test_outputs_of_each_mistake_are_distinguishable(number: int, mistake: str) -> None:
    one = exercise(number)
    observed = one.expected() | one.expected(frozenset({mistake}))
    assert known_mistake(one, observed) == mistake
    assert judge(one, observed) == Verdict(False, one.mistakes[mistake])


@pytest.mark.parametrize("number", NUMBERS)
def test_unknown_mistake_shows_the_difference(number: int) -> None:
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


TABLE = np.random.default_rng(0).standard_normal((37, 37))


def as_given(ids: np.ndarray) -> np.ndarray:
    """Return logits like a compiled model to which the ids are passed as they are."""
    if ids.dtype != np.int64:
        raise TypeError("int64 expected")
    return TABLE[ids] if ids.flags.c_contiguous else TABLE[ids.ravel(order="K").reshape(ids.shape)]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda ids: TABLE[ids][:1, :7], "not on ids of [1, 19]"),
        (lambda ids: TABLE[ids] if ids.shape == (2, 7) else ids[:0], "not on ids of [1, 5]"),
        (lambda ids: TABLE[ids] if ids.shape == (2, 7) else 1 / 0, "not on ids of [1, 5]"),
        (lambda ids: TABLE[ids] if ids.shape[1] > 1 else 1 / 0, "not on ids of [1, 1]"),
        (lambda ids: TABLE[ids] if ids.shape[1] < 19 else 1 / 0, "not on ids of [1, 19]"),
        (lambda ids: TABLE[ids] if len(ids) < 3 else 1 / 0, "not on ids of [3, 7]"),
        (lambda ids: TABLE[ids] + ids.shape[1], "not on ids of [1, 5]"),
        (as_given, "does not run on ids that are int32"),
        (lambda ids: as_given(ids.astype(np.int64, order="K")), "does not run on ids that are not contiguous"),
    ],
)
def test_model_compiled_for_some_inputs_only_is_diagnosed(model: Callable[[np.ndarray], Any], message: str) -> None:
    check_other_inputs(lambda ids: TABLE[ids], token_ids())
    with pytest.raises(WrongAnswerError, match=re.escape(message)):
        check_other_inputs(model, token_ids())


def test_missing_given_lines_are_diagnosed() -> None:
    compiled = accepts_tensors(lambda ids: TABLE[ids])
    check_given_code(object.__new__(PretrainedModel), compiled)
    with pytest.raises(WrongAnswerError, match=r"class MaxGPT2LMHeadModel\(PretrainedModel\)"):
        check_given_code(Module(), compiled)
    with pytest.raises(WrongAnswerError, match="@accepts_tensors above __call__"):
        check_given_code(object.__new__(PretrainedModel), lambda ids: TABLE[ids])


@pytest.mark.slow
def test_mask_lost_by_the_compiler_is_diagnosed(project: Path) -> None:
    step_files.step_path(2).write_text(
        "from max.dtype import DType\nfrom max.experimental import functional as F\n"
        "from max.experimental.tensor import Tensor\n\n\ndef causal_mask(seq):\n"
        "    positions = F.range(0, Tensor.from_dim(seq), 1, out_dim=seq, dtype=DType.int64)\n"
        "    hidden, seen = Tensor(float('-inf'), dtype=DType.float32), Tensor(0.0, dtype=DType.float32)\n"
        "    return F.where(F.unsqueeze(positions, 0) > F.unsqueeze(positions, 1), hidden, seen)\n"
    )
    assert check_task(Task(2, frozenset({2})), lambda phase: None).passed
    for number in (8, 13):
        step_files.step_path(number).write_text(solution(number))
    assert check_task(Task(8, frozenset({2})), lambda phase: None).passed
    assert check_task(Task(13, frozenset({2, 8})), lambda phase: None) == Verdict(
        False, exercise(13).mistakes["no mask"]
    )


@pytest.mark.parametrize(
    ("number", "right", "wrong", "expected"),
    [
        (4, "return self.c_proj(x)", "return self.c_proj(x", "Syntax error in line 26 of steps/step_04.py"),
        (4, "import Linear, Module", "import Module", "Add the import: from max.experimental.nn import Linear"),
        (4, "from max.experimental import functional as F", "import maxx", "There is no module named maxx."),
        (4, "return self.c_proj(x)", "print(self.c_proj(x))", "Printing a result does not return it"),
        (4, "return self.c_proj(x)", "raise SystemExit(0)", "The step calls exit."),
        (4, "return self.c_proj(x)", "return self.forward(self.c_proj(x))", "A function calls itself without end"),
        (4, "class GPT2MLP", "class MLP", "steps/step_04.py does not define GPT2MLP"),
        (4, "self.c_fc = Linear(config.n_embd, intermediate_size", "self.fc = Linear(config.n_embd, intermediate_size",
         "GPT2MLP has no parameter c_fc.weight, c_fc.bias."),
        (4, "Linear(config.n_embd, intermediate_size", "Linear(intermediate_size, config.n_embd",
         "[n_embd=20, n_inner=44]; it should be [n_inner=44, n_embd=20]. You have its transpose: Linear"),
        (5, "Tensor.zeros([config.vocab_size, config.n_embd])", "Tensor.zeros([config.n_embd, config.vocab_size])",
         "it should be [vocab=37, n_embd=20]. You have its transpose."),
        (2, "[seq, seq]", "[7, 7]", "mask always has the length 7 along seq, whatever the input is."),
        (4, "Linear(config.n_embd, intermediate_size", "Linear(config.n_embd, config.n_inner",
         "c_fc.weight is [3 * n_embd=60, n_embd=20]; it should be [n_inner=44, n_embd=20]."),
        (6, "out_dim=seq", "out_dim=7", "always has the length 7 along seq, whatever the input is."),
        (9, "return self.c_proj(self.merge_heads(found))", "return self.c_proj(found)", "found is [batch, 4, seq, 5]"),
        (6, "Tensor.from_dim(seq)", "int(seq)", "A symbolic dimension (batch or seq) has no value yet"),
        (14, "return rows", "return rows.tolist()", "returned a list; it must return a numpy array"),
        (14, "@accepts_tensors\ndef generate_tokens", "def generate_tokens", "Keep the line @accepts_tensors"),
        (7, "return query, key, value", "return query, key", "Expected 3 results (query, key, value), but got 2."),
    ],
)  # fmt: skip
def test_code_that_cannot_run_is_explained(project: Path, number: int, right: str, wrong: str, expected: str) -> None:
    source = solution(number)
    assert right in source
    step_files.step_path(number).write_text(source.replace(right, wrong))
    verdict = check(make_plan(number, read_progress()), SameProcessWorker())
    assert not verdict.passed
    assert expected in verdict.text
    assert not read_progress().passed


def test_wrong_shape_is_shown_with_axis_names() -> None:
    one = exercise(4)
    found = judge(one, {"y": np.zeros((2, 7, 44), dtype=np.float32)})
    assert found.text == "y has shape [batch=2, seq=7, n_inner=44]; it should be [batch=2, seq=7, n_embd=20]."
    assert "NaN" in judge(one, {"y": np.full((2, 7, 20), np.nan, dtype=np.float32)}).text


@pytest.mark.parametrize("number", NUMBERS)
def test_hints_do_not_contain_lines_of_the_solution(number: int) -> None:
    given = set(skeleton(solution(number)).splitlines())
    lines = [line.split("  #")[0].strip() for line in solution(number).splitlines() if line not in given]
    hints = " ".join(exercise(number).hints)
    assert len(exercise(number).hints) == 3
    assert not [line for line in lines if len(line) > 12 and line.rstrip(":") in hints]


def test_passed_steps_are_imported_from_the_learner(project: Path) -> None:
    plan = make_plan(4, Progress())
    assert (plan.own, plan.solved) == ((), (1,))
    step_files.step_path(1).write_text(solution(1).replace("4 * self.n_embd", "5 * self.n_embd"))
    step_files.step_path(11).write_text(solution(11).replace("config.n_inner or 4 * config.n_embd", "config.no_such"))
    verdict = check_task(Task(11, frozenset({1})), lambda phase: None)
    assert "no attribute 'no_such'" in verdict.text
    assert "your steps/step_11.py" in verdict.text
