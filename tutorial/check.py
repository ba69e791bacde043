"""A check from the learner's side: what runs, what came of it, and what is remembered."""

from dataclasses import dataclass

from tutorial.exercises import exercise
from tutorial.places import check_number, step_name
from tutorial.problem import WrongAnswerError
from tutorial.progress import Progress, file_hash, read_progress, write_progress
from tutorial.reading import read_step, used_steps
from tutorial.verdict import Verdict
from tutorial.worker import Task
from tutorial.workshop import Told, Workshop


@dataclass(frozen=True)
class Plan:
    """A step to check; of the earlier steps that it uses, `own` are the learner's, `solved` the solutions'."""

    number: int
    own: tuple[int, ...]
    solved: tuple[int, ...]


def make_plan(number: int, progress: Progress) -> Plan:
    """Say what a check would run; raises RequestError for a step that there is not."""
    check_number(number)
    done, used = progress.done(), used_steps(number)
    return Plan(number, tuple(one for one in used if one in done), tuple(one for one in used if one not in done))


def check(plan: Plan, workshop: Workshop, told: Told = lambda _part: None) -> Verdict:
    """Run the learner's file, and remember it when it is right."""
    try:
        read_step(exercise(plan.number))
    except WrongAnswerError as error:
        return Verdict(False, str(error))
    before = file_hash(plan.number)
    verdict = workshop.check(Task(plan.number, frozenset(plan.own)), told)
    progress = read_progress()
    if verdict.passed and before:
        progress.passed[plan.number] = before
        write_progress(progress)
    elif progress.passed.pop(plan.number, None):
        write_progress(progress)
    return verdict


def ran(plan: Plan) -> str:
    """Say in a sentence which files a check runs."""
    parts = [f"your {step_name(plan.number)}"]
    if plan.own:
        parts.append(f"with your {_steps(plan.own)}")
    if plan.solved:
        kind = "the solution" if len(plan.solved) == 1 else "the solutions"
        parts.append(f"{'and' if plan.own else 'with'} {kind} of {_steps(plan.solved)}, not passed yet,")
    return f"Running {' '.join(parts)}".rstrip(",") + "."


def _steps(numbers: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, numbers[:-1])) + (" and " if len(numbers) > 1 else "") + str(numbers[-1])
    return f"step {listed}" if len(numbers) == 1 else f"steps {listed}"
