"""Run learners' steps in MAX's interpreter, which compiles single operations and caches them, not whole steps."""

import contextlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.compilation import StagedGraph, stage
from max.experimental.executor import InterpreterExecutor
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import StaticDim, TensorType
from max.tree import map as map_tree

from max_gpt2.model.interpreter_ops import compile_operations
from tutorial.exercise import GraphExercise, WrongAnswerError, require_value
from tutorial.inputs import LENGTHS, Arrays, Dims, format_shape

logging.getLogger("max").setLevel(logging.ERROR)
SYMBOLIC = ("batch", "seq")


class MaxRunner:
    """Run graphs in MAX; an `exercise.Runner`."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """Take the function to call with each phase that begins."""
        self.report = report

    def run_graph(self, exercise: GraphExercise, step: ModuleType, names: Sequence[str]) -> Arrays:
        """Build the learner's module, run it on the exercise's inputs, and return the results of `call` by name.

        Two graphs are built. The first has symbolic dimensions for batch and seq, like the finished model. It is not
        run, but its shape errors name these dimensions, and it shows whether the step fixes a length. The second has
        concrete dimensions and is run by MAX's interpreter, which compiles only the operations.
        """
        self.report("forward")
        with default_device(CPU()), default_dtype(DType.float32):
            with F.lazy():
                built = build_module(exercise, step)
            _graph(exercise, step, built, names, SYMBOLIC)
            with contextlib.redirect_stdout(io.StringIO()):  # the output of the step was shown with the first graph
                graph = _graph(exercise, step, built, names, ())
            self.report("operations")
            compile_operations()
            self.report("run")
            arrays = [*exercise.arguments().values(), *exercise.weights().values()]
            outputs = InterpreterExecutor().execute(graph.graph, [Buffer.from_numpy(array) for array in arrays])
        found = [output.to_numpy().copy() for output in outputs if output is not None]
        return dict(zip(names, found, strict=True))


def _graph(
    exercise: GraphExercise, step: ModuleType, built: Any, names: Sequence[str], symbolic: Sequence[str]
) -> StagedGraph[..., tuple[Tensor, ...]]:
    """Return the step as a graph with its inputs and weights as arguments, in the order of the exercise."""
    arguments, weights = exercise.arguments(), exercise.weights()
    types = [_type(array, exercise.inputs[name], symbolic) for name, array in arguments.items()]
    types += [TensorType(DType.float32, array.shape, device=CPU()) for array in weights.values()]

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        inputs, parameters = values[: len(arguments)], dict(zip(weights, values[len(arguments) :], strict=True))
        results = exercise.call(step, _with_parameters(built, parameters), inputs)
        for value, name in zip(results, names, strict=False):
            _check_dims(require_tensor(value, name), name, exercise.outputs[name], symbolic)
        # MAX does not return constants or inputs as outputs; adding zero turns them into computed values.
        return tuple(require_tensor(value, name) + 0.0 for name, value in zip(names, results, strict=True))

    return stage(call, name="step", allow_subgraphs=False)(*types)


def _type(array: np.ndarray, dims: Dims, symbolic: Sequence[str]) -> TensorType:
    shape = [name if name in symbolic else LENGTHS[name] for name in dims]
    return TensorType(DType.int64 if array.dtype.kind == "i" else DType.float32, shape, device=CPU())


def _check_dims(value: Tensor, name: str, dims: Dims, symbolic: Sequence[str]) -> None:
    """Raise WrongAnswerError if an output has a fixed length where it should have a symbolic dimension."""
    for dim, found in zip(dims, value.shape, strict=False):
        # Any other fixed length makes a difference in the outputs.
        if dim in symbolic and isinstance(found, StaticDim) and int(found) == LENGTHS[dim]:
            raise WrongAnswerError(
                f"{name} always has the length {int(found)} along {dim}, whatever the input is. Use the {dim} of the "
                "input instead of a number."
            )


def _with_parameters(built: Any, parameters: Mapping[str, Tensor]) -> Any:
    """Return a copy of the module with other tensors as its parameters."""
    if not parameters:
        return built
    names = {id(tensor): name for name, tensor in built.parameters}
    return map_tree(lambda tensor: parameters[names[id(tensor)]], built, leaf=Tensor, shared=True)


def require_tensor(value: Any, name: str) -> Tensor:
    """Return the value; raise WrongAnswerError unless it is a Tensor."""
    require_value(value, name)
    if not isinstance(value, Tensor):
        raise WrongAnswerError(f"{name} is a {type(value).__name__}; it must be a Tensor.")
    return value


def build_module(exercise: GraphExercise, step: ModuleType) -> Any:
    """Return the learner's module; raise WrongAnswerError unless its parameters match those of a checkpoint."""
    built = exercise.build(step)
    expected = {name: array.shape for name, array in exercise.weights().items()}
    if not expected:
        return built
    found = {name: tuple(int(length) for length in tensor.shape) for name, tensor in built.parameters}
    kind = type(built).__name__
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing:
        also = f" It has {_listed(extra)}, which is in no checkpoint." if extra else ""
        raise WrongAnswerError(f"{kind} has no parameter {_listed(missing)}.{also} Parameters are created in __init__.")
    if extra:
        raise WrongAnswerError(f"{kind} has a parameter {_listed(extra)}, which is in no checkpoint.")
    for name, shape in expected.items():
        if found[name] != shape:
            how = ": Linear takes (in, out)" if "." in name else ""  # without a dot it is a table, not a Linear
            transposed = f" You have its transpose{how}." if found[name] == shape[::-1] else ""
            raise WrongAnswerError(
                f"{kind}'s {name} is {format_shape(found[name])}; it should be {format_shape(shape)}.{transposed}"
            )
    return built


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
