"""Run what learners wrote in MAX, at once: MAX compiles single operations and remembers them, not the whole step."""

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import StagedGraph, stage
from max.experimental.executor import InterpreterExecutor
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType
from max.tree import map as map_tree

from tutorial.exercise import GraphExercise, Report
from tutorial.operations import compile_operations
from tutorial.problem import WrongAnswerError
from tutorial.returned import present
from tutorial.sizes import NUMBERS, Arrays, Dims, named

logging.getLogger("max").setLevel(logging.ERROR)
SYMBOLIC = ("batch", "seq")


def run_step(exercise: GraphExercise, step: ModuleType, report: Report, names: Sequence[str]) -> Arrays:
    """Make the learner's module, run it on the exercise's numbers, and return what `call` returned, by these names.

    The step becomes a graph twice. The first has batch and seq as names, since the finished model is compiled for every
    length; it is only built, and a mistake in the shapes shows there, by these names. The second has their lengths, and
    is run by MAX's interpreter, which compiles no more than the operations.
    """
    report("forward")
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            built = checked_build(exercise, step)
        _graph(exercise, step, built, names, SYMBOLIC)
        with contextlib.redirect_stdout(io.StringIO()):  # the first graph has shown what the step prints
            graph = _graph(exercise, step, built, names, ())
        report("operations")
        compile_operations()
        report("run")
        arrays = [*exercise.arguments().values(), *exercise.weights().values()]
        outputs = InterpreterExecutor().execute(graph.graph, [Buffer.from_numpy(one) for one in arrays])
    found = [output.to_numpy().copy() for output in outputs if output is not None]
    return dict(zip(names, found, strict=True))


def _graph(
    exercise: GraphExercise, step: ModuleType, built: Any, names: Sequence[str], symbolic: Sequence[str]
) -> StagedGraph[..., tuple[Tensor, ...]]:
    """Return the step as a graph of its inputs and its weights, in the order of the exercise."""
    arguments, weights = exercise.arguments(), exercise.weights()
    types = [_type(array, exercise.inputs[name], symbolic) for name, array in arguments.items()]
    types += [TensorType(DType.float32, one.shape, device=CPU()) for one in weights.values()]

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        inputs, parameters = values[: len(arguments)], dict(zip(weights, values[len(arguments) :], strict=True))
        results = exercise.call(step, _with_parameters(built, parameters), inputs)
        # Adding nothing makes an output of what is a constant, or an input handed through: MAX returns neither.
        return tuple(tensor_of(one, name) + 0.0 for name, one in zip(names, results, strict=True))

    return stage(call, name="step", allow_subgraphs=False)(*types)


def _type(array: np.ndarray, dims: Dims, symbolic: Sequence[str]) -> TensorType:
    shape = [name if name in symbolic else NUMBERS[name] for name in dims]
    return TensorType(DType.int64 if array.dtype.kind == "i" else DType.float32, shape, device=CPU())


def _with_parameters(built: Any, parameters: Mapping[str, Tensor]) -> Any:
    """Return the module with other tensors as its parameters."""
    if not parameters:
        return built
    names = {id(one): name for name, one in built.parameters}
    return map_tree(lambda one: parameters[names[id(one)]], built, leaf=Tensor, shared=True)


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
            how = ": Linear takes (in, out)" if "." in name else ""  # a table has its rows by itself
            turned = f" That is its transpose{how}." if found[name] == shape[::-1] else ""
            raise WrongAnswerError(f"{kind}'s {name} is {named(found[name])} and should be {named(shape)}.{turned}")
    return built


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
