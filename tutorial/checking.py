"""One check, in the process of its own: import the step, run it, compare."""

import importlib
from collections.abc import Callable

import max.experimental.nn
import torch

from tutorial.diagnosis import judge
from tutorial.exercises import exercise
from tutorial.explain import explained
from tutorial.lookup import use_steps
from tutorial.problem import WrongAnswerError
from tutorial.verdict import Verdict
from tutorial.worker import Task

__all__ = ["check_task"]
# Imported before a step is, so that the time limit of a step does not count what they take.
_LOADED = (max.experimental.nn, torch)


def check_task(task: Task, report: Callable[[str], None]) -> Verdict:
    """Return the verdict; whatever the learner's code raises becomes one."""
    one = exercise(task.number)
    try:
        report("import")
        use_steps(task.own | {task.number})
        step = importlib.import_module(f"steps.step_{task.number:02}")
        observed = one.observe(step, report)
        return judge(one, observed)
    except WrongAnswerError as error:
        return Verdict(False, str(error))
    except BaseException as error:  # a learner's code may raise anything, SystemExit included
        return Verdict(False, explained(error, task.number))
