"""The exercises of the chapter "Look inside": solutions pass, skeletons do not, and mistakes are named."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from max_gpt2.inspect.module import ModuleTracer
from tests.support.activations import torch_activations
from tests.tutorial.planted import INSIDE, Planted
from tutorial import step_files
from tutorial.diagnosis import judge
from tutorial.exercise import Exercise
from tutorial.exercises import exercise
from tutorial.inside import DEMO, MADE, observe, own_tracer, patterns_of, subject, text_ids, tracer_of_steps
from tutorial.made_model import INDUCTION_HEAD, PREVIOUS_TOKEN_HEAD
from tutorial.step_files import NUMBERS, STEPS, solution_path, step_name
from tutorial.worker import Task, check_task

EXERCISES = [number for number in NUMBERS if number > STEPS]


def check(number: int, source: str) -> tuple[bool, str]:
    """Check a learner's file, with the solutions of all steps."""
    step_files.step_path(number).write_text(source)
    verdict = check_task(Task(number, frozenset()), lambda _phase: None)
    return verdict.passed, verdict.text


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the steps."""
    for folder in ("solutions", "steps"):
        shutil.copytree(step_files.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(step_files, "ROOT", tmp_path)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (15, "In the made model, it is head 1 of layer 0, with a score of 0.98. In the demo, it is head 2 of layer 4"),
        (16, "In the made model, head 0 of layer 1 has the largest score, 0.971"),
        (17, "Loss of the made model on the second copy: 0.02. Without its induction head: 3.47."),
    ],
)
@pytest.mark.usefixtures("course")
def test_solution_of_an_exercise_passes(number: int, shown: str) -> None:
    passed, text = check(number, solution_path(number).read_text())
    assert passed, text
    assert shown in text


@cache
def solved_tracer(name: str) -> ModuleTracer:
    return tracer_of_steps(name)


@cache
def solved_patterns(name: str, ids: tuple[int, ...]) -> np.ndarray:
    return patterns_of(solved_tracer(name), np.array(ids))


@pytest.fixture
def solved_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the solutions, loaded and traced once."""
    monkeypatch.setattr("tutorial.inside.tracer_of_steps", solved_tracer)
    names = {2: MADE, 6: DEMO}
    monkeypatch.setattr(
        "tutorial.inside.patterns_of",
        lambda tracer, ids: solved_patterns(names[tracer.config.n_layer], tuple(ids.tolist())),
    )


@pytest.mark.parametrize("planted", INSIDE, ids=lambda one: f"{one.step}: {one.mistake}")
@pytest.mark.usefixtures("course", "solved_model")
def test_mistake_in_an_exercise_is_named(planted: Planted) -> None:
    source = solution_path(planted.step).read_text()
    assert source.count(planted.right) == 1
    passed, text = check(planted.step, source.replace(planted.right, planted.wrong))
    assert not passed
    assert text == exercise(planted.step).mistakes[planted.mistake]


def test_every_mistake_is_planted() -> None:
    for number in EXERCISES:
        assert {one.mistake for one in INSIDE if one.step == number} == exercise(number).mistakes.keys()


@pytest.mark.parametrize("number", EXERCISES)
def test_mistakes_differ_from_the_solution_and_from_each_other(number: int) -> None:
    one: Exercise = exercise(number)
    for mistake in one.mistakes:
        wrong = one.expected(frozenset({mistake}))
        assert judge(one, {**one.expected(), **wrong}).text == one.mistakes[mistake]


def test_wrong_numbers_are_compared_with_numpy() -> None:
    one = exercise(15)
    found = one.expected()
    found["scores of the demo"] = found["scores of the demo"] + 0.5
    assert "48 of its 48 elements differ from numpy's: at index [0, 0]" in judge(one, found).text


@pytest.mark.parametrize("name", [MADE, DEMO])
def test_numbers_of_the_models_equal_pytorch(name: str) -> None:
    one = subject(name)
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
    config = GPT2Config(**{key: one.sizes[key] for key in names}, tie_word_embeddings=False)
    model = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    conv1d = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    weights = {key: value.T.copy() if key.endswith(conv1d) else value for key, value in one.weights.items()}
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    ids = text_ids() if name == DEMO else one.repeated
    expected, found = torch_activations(model, ids.tolist()), observe(name, text=name == DEMO)
    for layer, patterns in enumerate(found.patterns):
        np.testing.assert_allclose(patterns, expected[f"h.{layer}.attn.pattern"], atol=1e-5)
    np.testing.assert_allclose(found.logits, expected["logits"], atol=1e-3)
    without = observe(name, name == DEMO, (1, 0)).logits
    expected = torch_activations(model, ids.tolist(), first_head_of_layer_1)
    np.testing.assert_allclose(without, expected["logits"], atol=1e-3)


def first_head_of_layer_1(at: str, value: torch.Tensor) -> torch.Tensor:
    return torch.cat([0 * value[:1], value[1:]]) if at == "h.1.attn.z" else value


def test_heads_of_the_made_model_are_found_by_a_trace_of_the_steps() -> None:
    one = subject(MADE)
    (trace,) = own_tracer(MADE).trace([one.repeated.tolist()], ["h.*.attn.pattern"])
    layer, head = PREVIOUS_TOKEN_HEAD
    assert (np.diagonal(trace[f"h.{layer}.attn.pattern"][head], -1) > 0.9).all()
    layer, head = INDUCTION_HEAD
    assert (np.diagonal(trace[f"h.{layer}.attn.pattern"][head], 1 - len(one.repeated) // 2)[1:] > 0.9).all()


def test_unfinished_exercise_is_not_run() -> None:
    for number in EXERCISES:
        assert step_name(number) == f"steps/inside_{number - STEPS}.py"
        assert "raise NotImplementedError" in step_files.step_path(number).read_text()
