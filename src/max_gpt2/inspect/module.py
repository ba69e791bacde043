"""Trace a GPT-2 that is written as a MAX module, such as the model of the tutorial: what its own code computes."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
from max import tree
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import compilation, functional
from max.experimental.executor import InterpreterExecutor
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from max_gpt2.checkpoint.layout import is_conv1d
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.inspect.probes import check_memory, name_in, resolve, shape, split_name
from max_gpt2.inspect.trace import Trace, Tracer
from max_gpt2.model.interpreter_ops import compile_operations
from max_gpt2.model.stages import Stages
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.weights import LM_HEAD

#: The parts of a layer that are the input or the output of a submodule: its path in the block, then both parts.
_SUBMODULES: dict[str, tuple[str | None, str | None]] = {
    "": ("resid_pre", ""),
    "ln_1": (None, "ln_1"),
    "attn": (None, "attn"),
    "attn.c_proj": ("attn.z", None),
    "ln_2": ("resid_mid", "ln_2"),
    "mlp": (None, "mlp"),
    "mlp.c_fc": (None, "mlp.pre"),
    "mlp.c_proj": ("mlp.post", None),
}
#: How parts of a layer are read that are neither.
_HOW_READ = {
    **dict.fromkeys(("attn.scores", "attn.pattern"), "They are read where the attention calls F.softmax on 4 axes."),
    **dict.fromkeys(("attn.q", "attn.k", "attn.v"), "They are the three outputs of a module within the attention."),
}


@dataclass(frozen=True)
class ModuleTracer(Tracer):
    """Runs a GPT-2 that is written as a MAX module, and reads the activations that its own code computes.

    `ModuleTracer.of` makes one. Its traces are like those of `GPT2.trace`. There are no edits: change the parameters,
    see `with_parameters`. The submodules are found by their names in Hugging Face's GPT-2 (`transformer.h.0.ln_1`), and
    queries, keys and values as the three outputs of a module within the attention. Scores and patterns are the input
    and the output of F.softmax within the attention. MAX's interpreter runs the model, so that nothing is compiled but
    single operations, which takes about a minute the first time.

    Attributes:
        module: The module, which maps ids [batch, seq] to logits.
        parameters: The parameters by name, as arrays; the weight of a linear layer is [out, in].

    """

    module: Any = None
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, module: Any, tokenizer: GPT2Tokenizer) -> "ModuleTracer":
        """Return a tracer of a module with an attribute `config`; raises RequestError if its weights are not loaded."""
        if not all(parameter.real for _, parameter in module.parameters):
            raise RequestError("The model has no weights yet. Call load_state_dict first.")
        names = [one.name for one in fields(GPT2Config) if hasattr(module.config, one.name)]
        config = GPT2Config(**{name: getattr(module.config, name) for name in names})
        parameters = {name: np.asarray(one.to_numpy()) for name, one in module.parameters}
        return cls(_stages(config, parameters), tokenizer, (), module, parameters)

    def with_parameters(self, changed: Mapping[str, np.ndarray]) -> "ModuleTracer":
        """Return a tracer of the same code with other values of some parameters.

        Raises RequestError for a parameter that the model does not have, and for another shape.
        """
        for name, value in changed.items():
            if name not in self.parameters:
                raise RequestError(f"The model has no parameter {name}.")
            if value.shape != self.parameters[name].shape:
                needed = list(self.parameters[name].shape)
                raise RequestError(f"The parameter {name} is {needed}, but its new value is {list(value.shape)}.")
        parameters = {**self.parameters, **changed}
        return replace(self, parameters=parameters, stages=_stages(self.config, parameters))

    def trace(self, texts: Sequence[Sequence[int]], at: Iterable[str]) -> list[Trace]:
        """Return the activations of texts, given as token ids.

        Raises RequestError for unknown names, for edits, ids out of range, a text that is empty or too long, if the
        activations do not fit into the memory, and if the module does not compute one or computes another shape.
        """
        names = resolve(at, self.config)
        if self.edits:
            raise RequestError("A module is traced as it is, without edits. Change its parameters: with_parameters.")
        for ids in texts:
            self.check(ids)
        check_memory(names, self.config, [len(ids) for ids in texts])
        return [Trace(self, tuple(ids), self._activations(ids, names)) for ids in texts]

    def rerun(self, ids: Sequence[int], names: Sequence[str], known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return activations by name of a text that was traced before; the whole model runs again."""
        del known
        return dict(self.trace([ids], names)[0].activations)

    def _activations(self, ids: Sequence[int], names: Sequence[str]) -> dict[str, np.ndarray]:
        needed = {name.removesuffix("heads") + "z" if name.endswith(".attn.heads") else name for name in names}
        outputs = list[str]()

        def call(ids: Tensor, *values: Tensor) -> list[Tensor]:
            parameters = iter(values)
            copy = tree.map(lambda _: next(parameters), self.module, leaf=Tensor)
            found = _record_all(copy, ids)
            outputs.extend(name for name in found if name in needed)
            return [found[name] + 0.0 for name in outputs]  # MAX does not return constants or inputs as outputs

        arrays = [np.array([ids], dtype=np.int64), *self.parameters.values()]
        buffers = [Buffer.from_numpy(np.require(array, requirements="C")) for array in arrays]
        with default_device(CPU()), default_dtype(DType.float32):
            types = [TensorType(one.dtype, one.shape, device=CPU()) for one in buffers]
            graph = compilation.stage(call, name="trace", allow_subgraphs=False)(*types).graph
        with _quiet():
            compile_operations()
            found = InterpreterExecutor().execute(graph, buffers)
        values = {name: value.to_numpy() for name, value in zip(outputs, found, strict=True) if value is not None}
        return {name: self._value(name, values, len(ids)) for name in names}

    def _value(self, name: str, values: Mapping[str, np.ndarray], seq: int) -> np.ndarray:
        """Return an activation of one text, of those that the module returned with a leading axis of 1."""
        layer, part = split_name(name)
        if layer is not None and part == "attn.heads":
            z = self._value(name_in(layer, "attn.z"), values, seq)
            weight, _ = self.stages.layer(f"h.{layer}.attn.c_proj")
            return z @ np.stack(np.split(weight, len(z)))
        if name not in values:
            raise RequestError(f"The model does not compute {name}. {_how_read(layer, part)}")
        value, needed = values[name], shape(name, self.config, seq)
        if part in ("attn.q", "attn.k", "attn.v", "attn.z") and value.shape == (1, seq, self.config.n_embd):
            value = value.reshape(1, seq, self.config.n_head, -1).transpose(0, 2, 1, 3)
        if value.shape != (1, *needed):
            raise RequestError(f"{name} of the model is {list(value.shape)}; it should be {[1, *needed]}.")
        return np.array(value[0], order="C")


def _record_all(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """Call a copy of a module within a graph, and return the activations that it computes by name: [1, seq, ...]."""
    recorder = _Recorder()
    with recorder.recording(model):
        recorder.found["logits"] = model.forward(ids)
    return recorder.found


class _Recorder:
    """Collects activations in `found` by name, while a module runs within a graph."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}
        self._attention: int | None = None

    @contextmanager
    def recording(self, model: Module[..., Any]) -> Iterator[None]:
        """Record the submodules of a model, which is a copy of its own, and F.softmax."""
        seen = set[str]()
        for path, module in _modules(model):
            layer, part = split_name(path.removeprefix("transformer."))
            if path == "transformer.ln_f":
                _wrap(module, lambda output: self._keep("ln_f", output))
            elif layer is not None and path in seen and part == "attn":  # a transparent module has its parent's path
                _wrap(module, partial(self._keep_qkv, layer))
            elif layer is not None:
                self._record(module, layer, part)
            seen.add(path)
        softmax = functional.softmax

        def recorded(value: Tensor, *arguments: Any, **options: Any) -> Tensor:
            result = softmax(value, *arguments, **options)
            if self._attention is not None and len(result.shape) == 4:
                self._keep(name_in(self._attention, "attn.scores"), value)
                self._keep(name_in(self._attention, "attn.pattern"), result)
            return result

        functional.softmax = recorded
        try:
            yield
        finally:
            functional.softmax = softmax

    def _record(self, module: Module[..., Any], layer: int, part: str) -> None:
        before, after = _SUBMODULES.get(part, (None, None))

        def enter(x: Any) -> None:
            if part == "attn":
                self._attention = layer
            if before is not None:
                self._keep(name_in(layer, before), x)
            if layer == 0 and part == "":
                self._keep("embeddings", x)

        def leave(output: Any) -> None:
            if part == "attn":
                self._attention = None
            if after is not None:
                self._keep(name_in(layer, after), output)
            elif part.startswith("attn."):
                self._keep_qkv(layer, output)

        _wrap(module, leave, enter)

    def _keep_qkv(self, layer: int, output: Any) -> None:
        if isinstance(output, tuple | list) and len(output) == 3:
            for letter, value in zip("qkv", output, strict=True):
                self._keep(name_in(layer, f"attn.{letter}"), value)

    def _keep(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            self.found[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide MAX's messages about each operation that it compiles."""
    logger = logging.getLogger("max")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _modules(node: Any, path: str = "") -> Iterator[tuple[str, Module[..., Any]]]:
    """Yield all modules with their paths, parents first; a transparent module has the path of its parent."""
    if isinstance(node, Module):
        yield path, node
    if isinstance(node, Tensor) or not tree.is_node(node):
        return
    children, keys, _ = tree.flatten_one_level(node)
    for key, child in zip(keys or range(len(children)), children, strict=True):
        yield from _modules(child, tree.extend_path(path, key))


def _wrap(
    module: Module[..., Any], leave: Callable[[Any], None], enter: Callable[[Any], None] = lambda _x: None
) -> None:
    """Call functions with the input and with the output of a module, whenever its `forward` runs."""
    forward = module.forward

    def wrapped(x: Any, *more: Any, **options: Any) -> Any:
        enter(x)
        output = forward(x, *more, **options)
        leave(output)
        return output

    object.__setattr__(module, "forward", wrapped)


def _how_read(layer: int | None, part: str) -> str:
    """Return a sentence that says where an activation is read."""
    for path, parts in _SUBMODULES.items():
        if layer is not None and part in parts:
            return f"It does not call transformer.{name_in(layer, path)}."
    return _HOW_READ.get(part, "It does not call transformer.h.0 or transformer.ln_f.")


def _stages(config: GPT2Config, parameters: Mapping[str, np.ndarray]) -> Stages:
    """Return the final layer norm and the head in numpy, for the logit lens, and the weights in Conv1D's layout."""
    weights = {name: value.T if is_conv1d(name) else value for name, value in parameters.items()}

    def layer_norm(*buffers: Buffer) -> list[Buffer]:
        x, weight, bias, _ = (one.to_numpy() for one in buffers)
        centered = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(x.var(axis=-1, keepdims=True) + np.float32(config.layer_norm_epsilon))
        return [Buffer.from_numpy(centered / deviation * weight + bias)]

    def logits(*buffers: Buffer) -> list[Buffer]:
        return [Buffer.from_numpy(buffers[0].to_numpy() @ weights[LM_HEAD].T)]

    return Stages(config, {"layer_norm": layer_norm, "logits": logits}, weights)
