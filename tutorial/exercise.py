"""The interface of an exercise: the code to run, the expected outputs, and the known mistakes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from tutorial.inputs import Arrays, Dims

#: A `max.experimental.tensor.Tensor`, named here without importing MAX.
MaxTensor: TypeAlias = Any
#: The keys of the mistakes that a computation contains.
Mistakes = frozenset[str]
NO_MISTAKES: Mistakes = frozenset()


class WrongAnswerError(Exception):
    """A mistake that prevents a comparison of the outputs; the message says what to do about it."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check; `text` is one or more lines for the learner."""

    passed: bool
    text: str


class Runner(Protocol):
    """Run a learner's code on behalf of an exercise."""

    def report(self, phase: str) -> None:
        """Announce the phase that begins: a key of `worker.LIMITS`."""
        ...

    def run_graph(self, exercise: "GraphExercise", step: ModuleType, names: Sequence[str]) -> Arrays:
        """Build the learner's code as a MAX graph, run it, and return its outputs under these names."""
        ...


class Exercise(ABC):
    """One step: its outputs by name with their axes, three hints, and a diagnosis for each known mistake."""

    number: ClassVar[int]
    title: ClassVar[str]
    defines: ClassVar[tuple[str, ...]]
    outputs: ClassVar[Mapping[str, Dims]]
    hints: ClassVar[tuple[str, ...]]
    mistakes: ClassVar[Mapping[str, str]]
    tolerance: ClassVar[float] = 1e-4
    #: The implementation that the expected outputs come from.
    reference: ClassVar[str] = "PyTorch"

    def summary(self, observed: Arrays) -> str:
        """Return a sentence on correct outputs, or "" for a general one."""
        del observed
        return ""

    @abstractmethod
    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Run the learner's module and return what it computes, under the names in `outputs`."""

    @abstractmethod
    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return the correct outputs, or those of an implementation with the mistakes in `wrong`."""

    def equal(self, ours: np.ndarray, expected: np.ndarray) -> bool:
        """Return True if two arrays agree within `tolerance`, relative to the largest value; NaN equals NaN."""
        if ours.shape != expected.shape or ours.dtype.kind != expected.dtype.kind:
            return False
        if ours.dtype.kind not in "fiu":
            return bool((ours == expected).all())
        finite = expected[np.isfinite(expected)]
        scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
        return bool(np.allclose(ours, expected, rtol=0, atol=self.tolerance * scale, equal_nan=True))


class GraphExercise(Exercise):
    """An exercise that runs as a MAX graph: built with symbolic dimensions first, then run once on concrete inputs."""

    inputs: ClassVar[Mapping[str, Dims]]

    @abstractmethod
    def arguments(self) -> Arrays:
        """Return the input arrays, under the names in `inputs`."""

    def weights(self) -> Arrays:
        """Return the parameters of the module that `build` makes; no value is 0 or 1."""
        return {}

    def build(self, step: ModuleType) -> Any:
        """Return the learner's module, or None if the step is a function."""
        return None

    @abstractmethod
    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Call the learner's code inside a graph; return its results in the order of `outputs`."""

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Build the graph and run it."""
        return runner.run_graph(self, step, tuple(self.outputs))


def require_value(value: Any, name: str) -> Any:
    """Return the value; raise WrongAnswerError if it is None."""
    if value is None:
        raise WrongAnswerError(f"{name} returned None. Printing a result does not return it: end with `return ...`.")
    return value


def require_tuple(value: Any, names: Sequence[str]) -> Sequence[Any]:
    """Return the value; raise WrongAnswerError unless it is a tuple or list with one item for each name."""
    require_value(value, " and ".join(names))
    if not isinstance(value, tuple | list) or len(value) != len(names):
        got = f"{len(value)}" if isinstance(value, tuple | list) else f"a single {type(value).__name__}"
        raise WrongAnswerError(f"Expected {len(names)} results ({', '.join(names)}), but got {got}.")
    return value


def require_array(value: Any, name: str) -> np.ndarray:
    """Return the value; raise WrongAnswerError unless it is a numpy array."""
    require_value(value, name)
    if not isinstance(value, np.ndarray):
        raise WrongAnswerError(f"{name} returned a {type(value).__name__}; it must return a numpy array.")
    return value
