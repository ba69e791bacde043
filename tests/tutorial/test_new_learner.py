"""The whole course from a learner's side, by the commands that they type."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from solutions.solution_13 import CompiledGPT2
from tests.tutorial.new_learner import PAGE, Learner, walk
from tutorial.places import STEPS


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    return Learner(tmp_path)


def test_the_way_of_a_new_learner(learner: Learner, tiny_original: Path, tutorial_model: CompiledGPT2) -> None:
    del tutorial_model  # compiled once for all tests
    exchanges = list(walk(learner, str(tiny_original)))
    checks, (progress, example, verified) = exchanges[:-3], exchanges[-3:]
    assert len(checks) == 2 * STEPS
    for number, (skeleton, filled) in enumerate(zip(checks[::2], checks[1::2], strict=True), 1):
        assert skeleton.code == 1
        assert "There is work left" in skeleton.out
        assert f"Running your steps/step_{number:02}.py" in skeleton.out
        assert filled.code == 0, filled.out + filled.err
        assert "Right." in filled.out
        assert f"{number} of {STEPS}" in filled.out
        assert "solution" not in filled.out  # every earlier step that it uses is the learner's own
    assert "with your steps 1, 2, 7 and 8." in checks[17].out
    assert progress.out.count("done") == STEPS
    for one in (example, verified):
        assert one.code == 0, one.err
    assert "All 14 steps are yours." in example.out
    assert "MAX and PyTorch are equal" in example.out
    assert "All 14 steps are yours." in verified.err
    assert "Your model and PyTorch are equal" in verified.out


def test_the_transcript_has_every_step_and_the_model() -> None:
    page = PAGE.read_text()
    for number in range(1, STEPS + 1):
        assert page.count(f"$ make check STEP={number}\n") == 2
    assert "Your model and PyTorch are equal" in page
    assert "All 14 steps are yours." in page


def test_a_model_that_is_partly_the_learners(learner: Learner, tiny_original: Path, tmp_path: Path) -> None:
    for number in (1, 4):
        learner.write(number, learner.solution(number))
        assert learner.tutorial("check", number).code == 0
    # A step that was changed after it passed is not used: this one would be found out.
    learner.write(4, learner.solution(4).replace('approximate="tanh"', 'approximate="none"'))
    page = tmp_path / "out.html"
    done = learner.run("-m", "max_gpt2", "verify", "--mine", "--model", tiny_original, "--json", "--report", page)
    assert done.code == 0, done.err
    assert "Yours: step 1. From solutions/, for they have not passed yet: steps 2 to 14." in " ".join(done.err.split())
    facts = json.loads(done.out)
    assert facts["implementations"] == ["your model", "PyTorch"]
    assert facts["passed"]
    assert facts["greedy_match"]
    assert [probe["probe"] for probe in facts["probes"]] == ["wte", "logits"]
    assert "your model" in page.read_text()
    changed = learner.tutorial("progress")
    assert "changed since it passed" in changed.out
    assert "1 of 14" in changed.out


def test_a_learners_mistake_shows_in_verify(learner: Learner, tiny_original: Path) -> None:
    """The model is the learner's, not the solution's in disguise."""
    learner.write(4, learner.solution(4))
    assert learner.tutorial("check", 4).code == 0
    progress = learner.folder / "steps" / ".progress.json"
    stored = json.loads(progress.read_text())
    learner.write(4, learner.solution(4).replace('F.gelu(x, approximate="tanh")', "x"))
    hashed = learner.run("-c", "from tutorial.progress import file_hash; print(file_hash(4))").out.strip()
    stored["passed"]["4"] = hashed
    progress.write_text(json.dumps(stored))
    done = learner.run("-m", "max_gpt2", "verify", "--mine", "--model", tiny_original)
    assert done.code == 1
    assert "Your model and PyTorch are NOT equal" in done.out


def test_mine_outside_of_the_course(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "max_gpt2", "verify", "--mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 2
    assert "is not the tutorial's folder" in done.stderr


def test_mine_goes_with_pytorch_only(learner: Learner) -> None:
    done = learner.run("-m", "max_gpt2", "verify", "--mine", "--against", "demo")
    assert done.code == 2
    assert "Leave one out" in done.err


def test_a_step_that_ends_python_is_named(learner: Learner) -> None:
    learner.write(4, learner.solution(4).replace("return self.c_proj(x)", "import os; os._exit(0)"))
    done = learner.tutorial("check", 4)
    assert done.code == 1
    assert "Python itself ended while it ran steps/step_04.py (exit code 0)." in done.out
    assert "Traceback" not in done.out + done.err


def test_a_loop_without_end_is_stopped(learner: Learner) -> None:
    for number, where in ((4, "self.c_proj(x)"), (14, "rows\n")):
        learner.write(number, learner.solution(number).replace(f"return {where}", "while True:\n            pass\n"))
    script = (
        "from tutorial.workshop import LIMITS, Workshop\nfrom tutorial.worker import Task\n"
        "with Workshop(LIMITS | {'forward': 2}) as workshop:\n"
        "    for number in (4, 14, 1):\n"
        "        print(workshop.check(Task(number, frozenset()), lambda part: None).text)\n"
    )
    learner.write(1, learner.solution(1))
    done = learner.run("-c", script)
    assert done.out.splitlines() == [
        "steps/step_04.py was stopped after 2 s. Is there a loop in it that never ends?",
        "steps/step_14.py was stopped after 2 s. Is there a loop in it that never ends?",
        "All of it is as it should be.",
    ], done.err


def test_what_only_tells_needs_neither_max_nor_pytorch(learner: Learner) -> None:
    # Their imports take seconds; Ctrl-C in the midst of one ends Python 3.11 by the signal, even where it is caught.
    program = (
        "import runpy, sys; sys.modules['max'] = sys.modules['torch'] = None;"
        "runpy.run_module('tutorial', run_name='__main__', alter_sys=True)"
    )
    for arguments in (["progress"], ["hint", 14]):
        done = learner.run("-c", program, *arguments)
        assert done.code == 0, done.err


def test_watch_checks_what_is_saved(learner: Learner) -> None:
    command = [sys.executable, "-u", "-m", "tutorial", "watch"]
    process = subprocess.Popen(
        command, cwd=learner.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout
    assert "save a file" in process.stdout.readline()
    learner.write(1, learner.solution(1).replace("4 * self.n_embd", "self.n_embd"))
    said = iter(process.stdout.readline, "")
    assert any("n_inner became n_embd itself" in line for line in said)
    learner.write(1, learner.solution(1))
    assert any("Right." in line for line in said)
    assert any("Next: step 2" in line for line in said)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Until next time" in out
    assert "Traceback" not in err
