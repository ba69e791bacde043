"""Rules of the repository: documented imports, tasks, sizes and pinned versions."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.hub import fill_cache
from tests.support.until import run_until
from tests.tutorial.new_learner import Learner

ROOT = Path(__file__).parent.parent
TASKS = tomllib.loads((ROOT / "pixi.toml").read_text())["tasks"]
#: Tasks that would run the test suite within itself only collect the tests.
COLLECT_ONLY = {"PYTEST_ADDOPTS": "--collect-only --quiet"}
ENVIRONMENT = {"test": COLLECT_ONLY, "test-all": COLLECT_ONLY}
#: Exit code and message of tasks that fail in a new checkout: no step is done, no argument is given.
ERRORS = {f"s{number:02}": (1, f"steps/step_{number:02}.py is not finished") for number in range(1, 15)} | {
    "solution": (2, "Add --yes."),
    "reset": (2, "Missing argument 'STEP'"),
}
#: Tasks that run until they are interrupted, and their first output.
LONG_RUNNING = {"watch": "Watching steps/", "docs": "Serving on http://127.0.0.1"}
#: Tasks that write to steps/, which may contain a learner's work.
COURSE = {name for name, task in TASKS.items() if "python -m tutorial" in str(task)}


def test_documented_imports_work_from_the_root() -> None:
    program = (
        "from solutions.solution_01 import GPT2Config; from solutions.solution_13 import MaxGPT2LMHeadModel;"
        "from solutions.solution_14 import generate_tokens; assert GPT2Config().n_inner == 3072"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, env=dict(os.environ))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TASKS.keys() - {"serve"}))  # tested in tests/serve
def test_pixi_task_runs(name: str, tiny_original: Path, tmp_path: Path) -> None:
    task = TASKS[name]
    command = task if isinstance(task, str) else task["cmd"]
    fill_cache(tmp_path / "hub", "openai-community/gpt2", tiny_original)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HOME": str(tmp_path)} | ENVIRONMENT.get(name, {})
    (tmp_path / "course").mkdir()
    folder = Learner(tmp_path / "course").folder if name in COURSE else ROOT
    if name in LONG_RUNNING:
        assert LONG_RUNNING[name] in run_until(command, folder, environment, LONG_RUNNING[name])
        return
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    code, message = ERRORS.get(name, (0, ""))
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stdout + done.stderr


@pytest.mark.slow
def test_make_huggingface_runs_offline_from_the_cache(tiny_original: Path, tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "ready").exists():
        pytest.skip("make would set up .venv first, but the tests run in another environment")
    fill_cache(tmp_path / "hub", "openai-community/gpt2", tiny_original)
    done = subprocess.run(
        ["make", "huggingface", "MODEL=gpt2"],
        cwd=ROOT,
        env=os.environ | {"HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\nMAX and PyTorch are equal" in done.stdout


def test_pixi_and_make_have_the_same_main_tasks() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "huggingface", "serve", "test", "lint"} <= targets & set(TASKS)


def test_make_targets_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", text))
    assert {"demo", "test", "huggingface"} <= named <= targets


def test_solutions_are_short() -> None:
    for path in (ROOT / "solutions").glob("solution_*.py"):  # pretrained.py is given to learners
        assert len(path.read_text().splitlines()) <= 70, path


def test_versions_are_pinned() -> None:
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = [line for line in lock if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned)
    assert {"max==26.7.0", "torch==2.13.0"} <= set(pinned)


def test_ci_runs_make_test_and_test_all() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "set "))] == ["make test test-all"]
