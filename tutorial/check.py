"""Check a learner's step: choose the files to run, run them, and record the result."""

from dataclasses import dataclass

from tutorial.exercise import Verdict, WrongAnswerError
from tutorial.exercises import exercise
from tutorial.progress import Progress, file_hash, read_progress, write_progress
from tutorial.step_files import check_number, step_name
from tutorial.step_loader import read_step, used_steps
from tutorial.worker import OnPhase, Task, Worker


@dataclass(frozen=True)
class Plan:
    """A step to check; of the earlier steps that it uses, `own` come from the learner, `solved` from the solutions."""

    number: int
    own: tuple[int, ...]
    solved: tuple[int, ...]


def make_plan(number: int, progress: Progress) -> Plan:
    """Return the files that a check would run; raise RequestError if there is no such step."""
    check_number(number)
    done, used = progress.done(), used_steps(number)
    own = tuple(earlier for earlier in used if earlier in done)
    return Plan(number, own, tuple(earlier for earlier in used if earlier not in done))


def check(plan: Plan, worker: Worker, on_phase: OnPhase = lambda _phase: None) -> Verdict:
    """Run the learner's file and record whether it passed."""
    try:
        read_step(exercise(plan.number))
    except WrongAnswerError as error:
        return Verdict(False, str(error))
    before = file_hash(plan.number)
    verdict = worker.check(Task(plan.number, frozenset(plan.own)), on_phase)
    progress = read_progress()
    if verdict.passed and before:
        progress.passed[plan.number] = before
        write_progress(progress)
    elif progress.passed.pop(plan.number, None):
        write_progress(progress)
    return verdict


def describe(plan: Plan) -> str:
    """Return a sentence that names the files a check runs."""
    parts = [f"your {step_name(plan.number)}"]
    if plan.own:
        parts.append(f"with your {_steps(plan.own)}")
    if plan.solved:
        kind = "the solution" if len(plan.solved) == 1 else "the solutions"
        parts.append(f"{'and' if plan.own else 'with'} {kind} for {_steps(plan.solved)} (not passed yet)")
    return f"Running {' '.join(parts)}."


def _steps(numbers: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, numbers[:-1])) + (" and " if len(numbers) > 1 else "") + str(numbers[-1])
    return f"step {listed}" if len(numbers) == 1 else f"steps {listed}"
