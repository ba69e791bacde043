"""Graphs that run single kernels, called with numpy arrays, and models of random weights."""

from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.engine import InferenceSession
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import TensorType

from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.config import Activation, GPT2Config
from max_gpt2.model import ops_max, ops_mojo
from max_gpt2.model.batch import int64_type
from max_gpt2.model.builtin import compile_for_cpu
from max_gpt2.model.compile import build_graph, compile_module
from max_gpt2.model.ops_mojo import Typed
from max_gpt2.model.table import as_bytes, type_number
from max_gpt2.weights import LM_HEAD, WTE, Weight

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


@dataclass
class LayerOutputs:
    """The outputs of all operations except attention; those of MAX's operations end with `embed`."""

    linear: dict[str, np.ndarray]
    layer_norm: np.ndarray
    logits: np.ndarray
    embed: np.ndarray
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ranks: np.ndarray = field(default_factory=lambda: np.zeros(0))
    top_ids: np.ndarray = field(default_factory=lambda: np.zeros(0))
    top_logprobs: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class LayerInputs:
    """The inputs of all operations except attention."""

    x: np.ndarray  # [tokens, in]
    weight: Weight  # [in, out]
    bias: np.ndarray  # [out]
    head: Weight  # [out, in], the head and the token embeddings
    hidden: np.ndarray  # [tokens, out], input of the layer norm
    ids: np.ndarray  # [ids], below out
    positions: np.ndarray  # [ids], below out
    wpe: np.ndarray  # [out, in]
    targets: np.ndarray  # [tokens], below out
    mask: np.ndarray  # [out]
    best: np.ndarray  # [top]


EPS = 3e-2


class CompiledLayers:
    """All Mojo operations except attention, each on inputs of its own."""

    def __init__(self) -> None:
        number, tokens = int64_type("type"), int64_type("tokens")
        table, ids = TensorType(DType.uint8, ["rows", "row_bytes"], CPU()), int64_type("ids")
        x, weight, bias = _floats("tokens", "in"), TensorType(DType.uint8, ["bytes"], CPU()), _floats("out")
        types = [
            x,
            weight,
            int64_type("numbers"),
            bias,
            table,
            number,
            _floats("tokens", "out"),
            ids,
            ids,
            _floats("rows", "in"),
        ]
        types += [_floats(), tokens, _floats("rows"), int64_type("top")]
        graph = build_graph("layers", types, self._outputs)
        (self._run,) = InferenceSession(devices=[CPU()]).init_all(compile_module(graph)).values()

    @staticmethod
    def _outputs(*inputs: Any) -> list[Any]:
        x, data, type_, bias, table, head_type, hidden, ids, positions, wpe, eps, targets, mask, best = inputs
        weight, head = Typed(data, type_), Typed(table, head_type)
        return [
            ops_mojo.linear(x, weight, bias),
            ops_mojo.layer_norm(hidden, bias, bias, eps),
            ops_mojo.logits(x, head),
            ops_mojo.embed(ids, positions, head, wpe),
            *ops_mojo.token_scores(x, head, targets, mask, best),
        ]

    def __call__(self, given: LayerInputs) -> LayerOutputs:
        weight, head = as_bytes(given.weight).reshape(-1), as_bytes(given.head)
        rest = [given.bias, head, np.array([type_number(given.head)]), given.hidden, given.ids, given.positions]
        rest += [given.wpe, np.array(EPS, np.float32), given.targets, given.mask, given.best]
        linear: dict[str, np.ndarray] = {}
        for number, name in enumerate(ACTIVATIONS):
            numbers = np.array([type_number(given.weight), number])
            outputs = self._run.execute(*map(Buffer.from_numpy, [given.x, weight, numbers, *rest]))
            linear[name], *others = (output.to_numpy() for output in outputs)
        return LayerOutputs(linear, *others)


class _BuiltinLayers(Module[..., tuple[Tensor, ...]]):
    """The operations of MAX, each on inputs of its own."""

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor, head: Tensor, hidden: Tensor, *embedding: Tensor
    ) -> tuple[Tensor, ...]:
        ids, positions, wpe = embedding
        return (
            *(ops_max.linear(x, weight, bias, activation) for activation in ACTIVATIONS),
            ops_max.layer_norm(hidden, bias, bias, EPS),
            ops_max.logits(x, head),
            ops_max.embed(ids, positions, head, wpe),
        )


class BuiltinLayers:
    """The operations of MAX, called with numpy arrays of float32."""

    def __init__(self) -> None:
        types = [_floats("tokens", "in"), _floats("in", "out"), _floats("out"), _floats("out", "in")]
        types += [_floats("tokens", "out"), int64_type("ids"), int64_type("ids"), _floats("out", "in")]
        self._run = compile_for_cpu(_BuiltinLayers, types, {})

    def __call__(self, given: LayerInputs) -> LayerOutputs:
        assert isinstance(given.weight, np.ndarray)
        assert isinstance(given.head, np.ndarray)
        arrays = [given.x, given.weight, given.bias, given.head, given.hidden, given.ids, given.positions, given.wpe]
        outputs = [output.to_numpy() for output in self._run.execute_raw(*map(Buffer.from_numpy, arrays))]
        return LayerOutputs(dict(zip(ACTIVATIONS, outputs, strict=False)), *outputs[len(ACTIVATIONS) :])


def _floats(*shape: int | str) -> TensorType:
    return TensorType(DType.float32, shape, CPU())


def random_weights(config: GPT2Config) -> dict[str, np.ndarray]:
    """Return random float32 weights with a tied head."""
    rng = np.random.default_rng(config.n_embd)
    shapes = canonical_shapes(config)
    weights = {
        name: rng.standard_normal(shape, np.float32) * np.float32(shape[0] ** -0.5 if len(shape) > 1 else 1)
        for name, shape in shapes.items()
    }
    return weights | {LM_HEAD: weights[WTE]}
