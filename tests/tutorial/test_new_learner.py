"""The tutorial from end to end, through its commands."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from solutions.solution_13 import CompiledGPT2
from tests.tutorial.new_learner import PAGE, Learner, walk
from tutorial.step_files import STEPS

pytestmark = pytest.mark.slow


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    return Learner(tmp_path)


def test_new_learner_completes_all_steps(learner: Learner, tiny_original: Path, tutorial_model: CompiledGPT2) -> None:
    del tutorial_model  # compiled once for all tests
    exchanges = list(walk(learner, str(tiny_original)))
    checks, (progress, example, verified) = exchanges[:-3], exchanges[-3:]
    assert len(checks) == 2 * STEPS
    for number, (skeleton, filled) in enumerate(zip(checks[::2], checks[1::2], strict=True), 1):
        assert skeleton.code == 1
        assert "is not finished" in skeleton.out
        assert f"Running your steps/step_{number:02}.py" in skeleton.out
        assert filled.code == 0, filled.out + filled.err
        assert "Passed." in filled.out
        assert f"{number} of {STEPS}" in filled.out
        assert "solution" not in filled.out  # all earlier steps that it uses are the learner's own
    assert "with your steps 1, 2, 7 and 8." in checks[17].out
    assert progress.out.count("│ done │") == STEPS
    for one in (example, verified):
        assert one.code == 0, one.err
    assert "All 14 steps are yours." in example.out
    assert "MAX and PyTorch are equal" in example.out
    assert "All 14 steps are yours." in verified.err
    assert "Your model and PyTorch are equal" in verified.out


def test_transcript_covers_every_step_and_the_model() -> None:
    page = PAGE.read_text()
    for number in range(1, STEPS + 1):
        assert page.count(f"$ make check STEP={number}\n") == 2
    assert "Your model and PyTorch are equal" in page
    assert "All 14 steps are yours." in page


def test_solutions_stand_in_for_steps_not_passed(learner: Learner, tiny_original: Path, tmp_path: Path) -> None:
    for number in (1, 4):
        learner.write(number, learner.solution(number))
        assert learner.tutorial("check", number).code == 0
    # A step that changed after it passed is not used; this change would make verify fail.
    learner.write(4, learner.solution(4).replace('approximate="tanh"', 'approximate="none"'))
    page = tmp_path / "out.html"
    done = learner.tutorial("verify", "--model", tiny_original, "--json", "--report", page)
    assert done.code == 0, done.err
    assert "Yours: step 1. From solutions/, because they have not passed yet: steps 2 to 14." in " ".join(
        done.err.split()
    )
    values = json.loads(done.out)
    assert values["implementations"] == ["your model", "PyTorch"]
    assert values["passed"]
    assert values["greedy_match"]
    assert [probe["probe"] for probe in values["probes"]] == ["wte", "logits"]
    assert "your model" in page.read_text()
    changed = learner.tutorial("progress")
    assert "changed since it passed" in changed.out
    assert "1 of 14" in changed.out


def test_verify_reports_a_mistake_in_a_passed_step(learner: Learner, tiny_original: Path) -> None:
    """`verify` runs the learner's file, not the solution."""
    learner.write(4, learner.solution(4))
    assert learner.tutorial("check", 4).code == 0
    progress = learner.folder / "steps" / ".progress.json"
    stored = json.loads(progress.read_text())
    learner.write(4, learner.solution(4).replace('F.gelu(x, approximate="tanh")', "x"))
    hashed = learner.run("-c", "from tutorial.progress import file_hash; print(file_hash(4))").out.strip()
    stored["passed"]["4"] = hashed
    progress.write_text(json.dumps(stored))
    done = learner.tutorial("verify", "--model", tiny_original)
    assert done.code == 1
    assert "Your model and PyTorch are NOT equal" in done.out


def test_step_that_exits_python_is_reported(learner: Learner) -> None:
    learner.write(4, learner.solution(4).replace("return self.c_proj(x)", "import os; os._exit(0)"))
    done = learner.tutorial("check", 4)
    assert done.code == 1
    assert "The Python process exited while running steps/step_04.py (exit code 0)." in done.out
    assert "Traceback" not in done.out + done.err


def test_endless_loop_is_stopped(learner: Learner) -> None:
    for number, where in ((4, "self.c_proj(x)"), (14, "rows\n")):
        learner.write(number, learner.solution(number).replace(f"return {where}", "while True:\n            pass\n"))
    script = (
        "from tutorial.worker import LIMITS, Task, Worker\n"
        "with Worker(LIMITS | {'forward': 2}) as worker:\n"
        "    for number in (4, 14, 1):\n"
        "        print(worker.check(Task(number, frozenset()), lambda phase: None).text)\n"
    )
    learner.write(1, learner.solution(1))
    done = learner.run("-c", script)
    assert done.out.splitlines() == [
        "steps/step_04.py was stopped after 2 s. Does it contain an endless loop?",
        "steps/step_14.py was stopped after 2 s. Does it contain an endless loop?",
        "All outputs are correct.",
    ], done.err


def test_hint_and_progress_import_neither_max_nor_pytorch(learner: Learner) -> None:
    # Importing them takes seconds, and Ctrl-C during an import kills Python 3.11 even if the signal is handled.
    program = (
        "import runpy, sys; sys.modules['max'] = sys.modules['torch'] = None;"
        "runpy.run_module('tutorial', run_name='__main__', alter_sys=True)"
    )
    for arguments in (["progress"], ["hint", 14]):
        done = learner.run("-c", program, *arguments)
        assert done.code == 0, done.err


def test_watch_checks_saved_files(learner: Learner) -> None:
    command = [sys.executable, "-u", "-m", "tutorial", "watch"]
    process = subprocess.Popen(
        command, cwd=learner.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout
    assert "Watching steps/" in process.stdout.readline()
    learner.write(1, learner.solution(1).replace("4 * self.n_embd", "self.n_embd"))
    lines = iter(process.stdout.readline, "")
    assert any("You set n_inner to n_embd." in line for line in lines)
    learner.write(1, learner.solution(1))
    assert any("Passed." in line for line in lines)
    assert any("Next: step 2" in line for line in lines)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Stopped watching" in out
    assert "Traceback" not in err
