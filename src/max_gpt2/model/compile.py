"""Build the graphs and compile them for the CPU."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from max.driver import CPU
from max.dtype import DType
from max.engine import CompiledModel as CompiledArtifact
from max.engine import InferenceSession
from max.experimental import functional as F
from max.experimental.compilation import CompiledCallable
from max.experimental.nn import Module
from max.experimental.realization_context import GraphRealizationContext, realization_context
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import Graph, TensorType, TensorValue

from max_gpt2.config import ACTIVATIONS, GPT2Config, Kernels
from max_gpt2.model.batch import blocks_type, cache_types, int64_type, paged_token_types, token_types
from max_gpt2.model.ops import Ops
from max_gpt2.model.ops_max import MaxOps
from max_gpt2.model.ops_mojo import MojoOps, PagedMojoOps
from max_gpt2.model.session import CompiledModel, HiddenStatesModel
from max_gpt2.model.transformer import LanguageModel, ScoringModule, ServedModule, Transformer


def make_ops(kernels: Kernels) -> Ops:
    """Return the implementation of the operations that `kernels` names."""
    return MojoOps() if kernels == "mojo" else MaxOps()


def compile_model(config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels = "mojo") -> CompiledModel:
    """Compile a model for any number of sequences of any length.

    `state_dict` is canonical (`max_gpt2.checkpoint`); its arrays are used in place, not copied.
    """
    return CompiledModel(config, kernels, compile_graph(config, state_dict, kernels).execute_raw, state_dict)


def compile_graph(
    config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels
) -> CompiledCallable[..., Tensor]:
    """Compile the graph of `compile_model`: the arrays of `RaggedBatch` and `KVCache.buffers` to logits."""
    ops = make_ops(kernels)
    types = [*token_types(), int64_type("rows"), *cache_types(config), *ops.extra_types]
    return compile_for_cpu(lambda: LanguageModel(config, ops), types, state_dict, ops)


def compile_paged(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> CompiledCallable[..., Any]:
    """Compile the graph for a server with a paged cache; `state_dict` is used as in `compile_model`.

    Its inputs are those of `ServedModule`, and the blocks of `PagedCacheInputs`.
    """
    ops = PagedMojoOps()
    rows = [int64_type(name) for name in ("rows", "sampled", "scored", "scored")]
    types = [*paged_token_types(), *rows, *_scoring_types(), blocks_type(config)]
    return compile_for_cpu(lambda: ServedModule(config, ops), types, state_dict, ops)


def compile_scoring(config: GPT2Config, state_dict: Mapping[str, np.ndarray]) -> CompiledCallable[..., Any]:
    """Compile a graph that scores given next tokens; `state_dict` is used as in `compile_model`.

    Its inputs are those of `ScoringModule`.
    """
    ops = MojoOps()
    rows = [int64_type("rows"), int64_type("rows")]
    types = [*token_types(), *rows, *_scoring_types(), *cache_types(replace(config, n_layer=1))]
    return compile_for_cpu(lambda: ScoringModule(config, ops), types, state_dict, ops)


def _scoring_types() -> list[TensorType]:
    """Return the types of the inputs `mask` and `best` of `MojoOps.token_scores`."""
    return [TensorType(DType.float32, ["vocab"], device=CPU()), int64_type("top")]


def compile_hidden_states(
    config: GPT2Config, state_dict: Mapping[str, np.ndarray], kernels: Kernels = "mojo"
) -> HiddenStatesModel:
    """Compile a model that returns all hidden states; `state_dict` is used as in `compile_model`."""
    ops = make_ops(kernels)
    weights = {name: value for name, value in state_dict.items() if name.startswith("transformer.")}
    types = [int64_type("embeddings"), *token_types(), *cache_types(config), *ops.extra_types]
    graph = compile_for_cpu(lambda: HiddenStates(config, ops), types, weights, ops)
    return HiddenStatesModel(config, kernels, graph.execute_raw)


def compile_stages(config: GPT2Config) -> CompiledArtifact:
    """Compile each operation of `MojoOps` as a graph of its own, with the weights as inputs: see `Stages`.

    A single artifact has them all, since most of the time goes into the kernels, which they share.
    """
    ops, graphs = MojoOps(), list[Graph]()
    activation, eps = ACTIVATIONS[config.activation_function], config.layer_norm_epsilon

    def add(name: str, operation: Callable[..., Tensor], *types: Any) -> None:
        # The first graph makes the module, since a new `max.graph.Module` needs MLIR's context of the main thread.
        module = graphs[0].module if graphs else None
        with Graph(name, input_types=types, module=module, custom_extensions=list(ops.extensions)) as graph:
            graphs.append(graph)
            context = GraphRealizationContext(graph)
            with realization_context(context), context:
                inputs = [Tensor.from_graph_value(value) for value in graph.inputs]
                graph.output(TensorValue(operation(*inputs)))

    x, matrix, vector = _floats("tokens", "in"), _floats("in", "out"), _floats("out")
    table = _floats("rows", "in")
    with default_device(CPU()), default_dtype(DType.float32):
        add("embed", ops.embed, int64_type("tokens"), int64_type("tokens"), table, _floats("positions", "in"))
        add("linear", lambda x, weight, bias: ops.linear(x, weight, bias, "none"), x, matrix, vector)
        add("activated", lambda x, weight, bias: ops.linear(x, weight, bias, activation), x, matrix, vector)
        add("layer_norm", lambda x, weight, bias: ops.layer_norm(x, weight, bias, eps), x, _floats("in"), _floats("in"))
        scalars = [TensorType(dtype, [], device=CPU()) for dtype in (DType.int64, DType.float32)]
        cache = [*token_types()[2:], *cache_types(config)]
        add("attention", ops.attention, _floats("tokens", 3 * config.n_embd), *scalars, *cache)
        add("logits", ops.logits, x, table)
    return InferenceSession(devices=[CPU()]).compile(graphs[0].module, custom_extensions=list(ops.extensions))


def _floats(*shape: int | str) -> TensorType:
    return TensorType(DType.float32, shape, device=CPU())


def compile_for_cpu(
    make: Callable[[], Module[..., Any]], types: list[Any], weights: Mapping[str, np.ndarray], ops: Ops
) -> CompiledCallable[..., Any]:
    """Compile a module for the CPU in float32; its weights are used in place."""
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            module = make()
        return module.compile(*types, weights=weights, custom_extensions=ops.extensions)


class HiddenStates(Module[..., tuple[Tensor, ...]]):
    """The transformer with all hidden states as outputs."""

    def __init__(self, config: GPT2Config, ops: Ops) -> None:
        """Create the transformer."""
        self.transformer = Transformer(config, ops)

    def forward(self, rows: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the token embeddings at `rows` and every hidden state.

        [rows] of int64 and the inputs of `Transformer.hidden_states` -> [rows, n_embd], and [tokens, n_embd] for each
        of `state_names`.
        """
        return F.gather(self.transformer.wte(), rows, axis=0), *self.transformer.hidden_states(*inputs)
