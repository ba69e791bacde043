"""Compile what learners wrote, and run it: one graph, whose lengths batch and seq are only names."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from tutorial.exercise import GraphExercise, Report
from tutorial.problem import WrongAnswerError
from tutorial.returned import present
from tutorial.sizes import NUMBERS, Arrays, Dims, named

logging.getLogger("max").setLevel(logging.ERROR)
SYMBOLIC = ("batch", "seq")


@dataclass(frozen=True)
class Candidate:
    """An answer to an exercise: the module that holds it."""

    exercise: GraphExercise
    step: ModuleType


class Bench(Module[..., tuple[Tensor, ...]]):
    """Candidates side by side, each with its own inputs and outputs. It tells when the candidates' code runs."""

    def __init__(self, candidates: Sequence[Candidate], report: Report) -> None:
        """Let every candidate make its module."""
        report("forward")
        for place, candidate in enumerate(candidates):
            setattr(self, f"candidate_{place}", checked_build(candidate.exercise, candidate.step))
        self.candidates, self.report = candidates, report

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call every candidate with its inputs."""
        self.report("forward")
        found: list[Tensor] = []
        rest = list(inputs)
        for place, (exercise, step) in enumerate((one.exercise, one.step) for one in self.candidates):
            own, rest = rest[: len(exercise.inputs)], rest[len(exercise.inputs) :]
            results = exercise.call(step, getattr(self, f"candidate_{place}"), own)
            # Some outputs are constants or inputs handed through, which MAX cannot return; adding nothing changes that.
            found += [tensor_of(one, name) + 0.0 for name, one in zip(exercise.outputs, results, strict=True)]
        self.report("compile")
        return tuple(found)


def tensor_of(value: Any, name: str) -> Tensor:
    """Return a Tensor as it is; raises WrongAnswerError for anything else."""
    present(value, name)
    if not isinstance(value, Tensor):
        raise WrongAnswerError(f"{name} is a {type(value).__name__}, where a Tensor is wanted.")
    return value


def checked_build(exercise: GraphExercise, step: ModuleType) -> Any:
    """Return the learner's module when its parameters have the names and shapes that the checkpoint has."""
    built = exercise.build(step)
    wanted = {name: one.shape for name, one in exercise.weights().items()}
    if not wanted:
        return built
    found = {name: tuple(int(length) for length in one.shape) for name, one in built.parameters}
    kind = type(built).__name__
    missing, extra = [name for name in wanted if name not in found], [name for name in found if name not in wanted]
    if missing:
        also = f" It has {_listed(extra)}, which no checkpoint knows." if extra else ""
        raise WrongAnswerError(f"{kind} has no parameter {_listed(missing)}.{also} __init__ makes them.")
    if extra:
        raise WrongAnswerError(f"{kind} has a parameter {_listed(extra)} that no checkpoint knows.")
    for name, shape in wanted.items():
        if found[name] != shape:
            turned = " That is its transpose: Linear takes (in, out)." if found[name] == shape[::-1] else ""
            raise WrongAnswerError(f"{kind}'s {name} is {named(found[name])} and should be {named(shape)}.{turned}")
    return built


def run_in_one_graph(candidates: Sequence[Candidate], report: Report) -> list[Arrays]:
    """Compile the candidates as one graph, run it, and return the outputs of each."""
    weights: Arrays = {}
    types, arguments = [], []
    for place, candidate in enumerate(candidates):
        exercise = candidate.exercise
        weights |= {f"candidate_{place}.{name}": one for name, one in exercise.weights().items()}
        for name, array in exercise.arguments().items():
            types.append(_type(array, exercise.inputs[name]))
            arguments.append(Buffer.from_numpy(array))
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            bench = Bench(candidates, report)
        run = bench.compile(*types, weights=weights)
    outputs = [output.to_numpy().copy() for output in run.execute_raw(*arguments)]
    found = []
    for candidate in candidates:
        names = candidate.exercise.outputs
        found.append(dict(zip(names, outputs, strict=False)))
        outputs = outputs[len(names) :]
    return found


def _type(array: np.ndarray, dims: Dims) -> TensorType:
    shape = [name if name in SYMBOLIC else NUMBERS[name] for name in dims]
    return TensorType(DType.int64 if array.dtype.kind == "i" else DType.float32, shape, device=CPU())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
