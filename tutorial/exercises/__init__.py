"""The exercises of the fourteen steps and of the chapter "Look inside", one per file. Importing them loads neither MAX nor PyTorch, so hints appear immediately."""

import importlib

from tutorial.exercise import Exercise
from tutorial.step_files import STEPS


def exercise(number: int) -> Exercise:
    """Return the exercise of a step."""
    name = f"inside_{number - STEPS}" if number > STEPS else f"exercise_{number:02}"
    found: Exercise = importlib.import_module(f"tutorial.exercises.{name}").EXERCISE
    return found
