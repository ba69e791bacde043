"""What a step is to its check: something to run, what PyTorch computes for it, and the mistakes that are known."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tutorial.sizes import Arrays, Dims

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor

Wrong = frozenset[str]
RIGHT: Wrong = frozenset()
#: Tells which part of a check is running now: "import" and "forward" are the learner's code, the others MAX.
Report = Callable[[str], None]


class Exercise(ABC):
    """One step. `outputs` are compared, by their axes; each hint says more; `mistakes` are sentences by their keys."""

    number: ClassVar[int]
    title: ClassVar[str]
    defines: ClassVar[tuple[str, ...]]
    outputs: ClassVar[Mapping[str, Dims]]
    hints: ClassVar[tuple[str, ...]]
    mistakes: ClassVar[Mapping[str, str]]
    tolerance: ClassVar[float] = 1e-4

    @abstractmethod
    def observe(self, step: ModuleType, report: Report) -> Arrays:
        """Run the learner's module and return what came out, by the names of `outputs`."""

    @abstractmethod
    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what comes out of the right answer, or of one with the mistakes `wrong`; may raise for nonsense."""

    def equal(self, ours: np.ndarray, expected: np.ndarray) -> bool:
        """Whether two arrays are the same but for rounding; NaN equals NaN."""
        if ours.shape != expected.shape or ours.dtype.kind != expected.dtype.kind:
            return False
        if ours.dtype.kind not in "fiu":
            return bool((ours == expected).all())
        finite = expected[np.isfinite(expected)]
        scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
        return bool(np.allclose(ours, expected, rtol=0, atol=self.tolerance * scale, equal_nan=True))


class GraphExercise(Exercise):
    """A step that becomes a graph of MAX: built with named lengths, and run once with numbers."""

    inputs: ClassVar[Mapping[str, Dims]]

    @abstractmethod
    def arguments(self) -> Arrays:
        """Return the numbers to call it with, by the names of `inputs`."""

    def weights(self) -> Arrays:
        """Return the parameters of what `build` makes, by name; none of them is 0 or 1."""
        return {}

    def build(self, step: ModuleType) -> Any:
        """Return the learner's module, or None where the step is a function."""
        return None

    @abstractmethod
    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Call it in a graph; return what it returned, in the order of `outputs`."""

    def observe(self, step: ModuleType, report: Report) -> Arrays:
        """Build the graph and run it."""
        from tutorial.lab import run_step

        return run_step(self, step, report, tuple(self.outputs))
