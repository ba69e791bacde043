"""Build the graphs of the Mojo kernels and compile them for the CPU.

No graph contains weights, sizes or flags: they are inputs. So one compiled graph serves every model, in every type of
weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from max.driver import CPU
from max.dtype import DType
from max.engine import CompiledModel as Artifact
from max.engine import InferenceSession
from max.graph import BufferType, DeviceRef, Graph, TensorType, Value
from max.graph import ops as max_ops

from max_gpt2.model import ops_mojo as ops
from max_gpt2.model.batch import int64_type, token_types
from max_gpt2.model.ops_mojo import Typed

#: The kinds of graph: with a contiguous cache, with a server's paged cache, to score given tokens, or in stages.
Kind = Literal["mojo", "paged", "scoring", "stages"]

_DEVICE = DeviceRef.CPU()


def compile_graph(kind: Kind) -> Artifact:
    """Compile a graph, or the graphs of "stages" as one artifact."""
    graphs = {"mojo": _generation, "paged": _paged, "scoring": _scoring, "stages": _stages}[kind]()
    return compile_module(graphs[0])


def compile_module(graph: Graph) -> Artifact:
    """Compile a graph made by `build_graph`, with all others of its module."""
    session = InferenceSession(devices=[CPU()])
    return session.compile(graph.module, custom_extensions=ops.extensions())


def _generation() -> list[Graph]:
    """Build the graph of `CompiledModel`: model, the arrays of `RaggedBatch`, `KVCache.buffers` -> [rows, vocab]."""
    types = [*_model_types(), *token_types(), int64_type("rows"), *_cache_types()]

    def logits(*inputs: Any) -> Sequence[Value[Any]]:
        model, ln_f, head, ids, positions, row_offsets, cache_lengths, slots, logits_indices, *cache = inputs
        batch = row_offsets, cache_lengths, slots
        x = ops.transformer([ids, positions, logits_indices], model, ln_f, batch, cache)
        return [ops.logits(x, Typed(head, model))]

    return [build_graph("logits", types, logits)]


def _scoring() -> list[Graph]:
    """Build the graph of `FusedScoringModel`.

    model, the arrays of `RaggedBatch`, `targets` [rows], `mask` [vocab], `best` [top], and the buffers of a cache with
    one layer -> the results of `ops_mojo.token_scores`.
    """
    types = [*_model_types(), *token_types(), int64_type("rows"), *_scoring_types("rows"), *_cache_types()]

    def scores(*inputs: Any) -> Sequence[Value[Any]]:
        model, ln_f, head, ids, positions, row_offsets, cache_lengths, slots, logits_indices, *rest = inputs
        targets, mask, best, *cache = rest
        batch = row_offsets, cache_lengths, slots
        x = ops.transformer([ids, positions, logits_indices], model, ln_f, batch, cache)
        return ops.token_scores(x, Typed(head, model), targets, mask, best)

    return [build_graph("scores", types, scores)]


def _paged() -> list[Graph]:
    """Build the graph of a server, which returns logits of some tokens and scores the next tokens of others.

    model, the arrays of `PagedBatch` with `lookup_table` instead of `slots`, `sampled` and `scored`, which index
    `logits_indices` and may be empty, `targets` [scored], `mask` [vocab], `best` [top], and blocks -> [sampled, vocab],
    and the results of `ops_mojo.token_scores`.
    """
    tokens = [*token_types()[:-1], int64_type("batch", "pages")]
    rows = [int64_type(name) for name in ("rows", "sampled", "scored")]
    blocks = _buffer("blocks", 2, "n_layer", "page_size", "n_head", "head_dim")
    types = [*_model_types(), *tokens, *rows, *_scoring_types("scored"), blocks]

    def both(*inputs: Any) -> Sequence[Value[Any]]:
        model, ln_f, head, ids, positions, row_offsets, cache_lengths, lookup_table, logits_indices, *rest = inputs
        sampled, scored, targets, mask, best, *cache = rest
        batch = row_offsets, cache_lengths, lookup_table
        x = ops.transformer([ids, positions, logits_indices], model, ln_f, batch, cache)
        weight = Typed(head, model)
        logits = ops.logits(max_ops.gather(x, sampled, axis=0), weight)
        return [logits, *ops.token_scores(max_ops.gather(x, scored, axis=0), weight, targets, mask, best)]

    return [build_graph("served", types, both)]


def _stages() -> list[Graph]:
    """Build a graph for each operation: see `Stages`."""
    graphs: list[Graph] = []

    def add(name: str, operation: Callable[..., Value[Any]], *types: Any) -> None:
        # The first graph makes the module, since a new `max.graph.Module` needs MLIR's context of the main thread.
        module = graphs[0].module if graphs else None
        graphs.append(build_graph(name, types, lambda *inputs: [operation(*inputs)], module))

    x, vector, number = _floats("tokens", "in"), _floats("in"), int64_type("type")
    table, weight = _bytes("rows", "row_bytes"), _bytes("bytes")
    ids = int64_type("tokens")
    add("embed", lambda i, p, t, n, wpe: ops.embed(i, p, Typed(t, n), wpe), ids, ids, table, number, _floats("p", "in"))
    numbers = int64_type("numbers")
    add(
        "linear", lambda x, w, numbers, bias: ops.linear(x, Typed(w, numbers), bias), x, weight, numbers, _floats("out")
    )
    add("layer_norm", ops.layer_norm, x, vector, vector, _floats())
    cache = [int64_type("row_offsets"), int64_type("batch"), int64_type("batch"), *_cache_types()]
    qkv = _floats("tokens", "width"), TensorType(DType.int64, [], _DEVICE), _floats()
    add("attention", lambda x, n, s, *rest: ops.attention(x, n, s, rest[:3], rest[3:]), *qkv, *cache)
    add("logits", lambda x, table, number: ops.logits(x, Typed(table, number)), x, table, number)
    return graphs


def build_graph(
    name: str, types: Sequence[Any], operation: Callable[..., Sequence[Value[Any]]], module: Any = None
) -> Graph:
    """Build a graph of operations of `ops_mojo`, in a module that has others or in a new one."""
    with Graph(name, input_types=types, module=module, custom_extensions=ops.extensions()) as graph:
        graph.output(*operation(*graph.inputs))
    return graph


def _model_types() -> list[TensorType]:
    """Return the types of `ModelTable.buffers`."""
    return [int64_type("entries"), _floats("n_embd"), _bytes("vocab", "row_bytes")]


def _scoring_types(rows: str) -> list[TensorType]:
    """Return the types of `targets`, `mask` and `best` of `ops_mojo.token_scores`."""
    return [int64_type(rows), _floats("vocab"), int64_type("top")]


def _cache_types() -> list[BufferType]:
    """Return the types of the buffers of a cache with keys in blocks."""
    keys = _buffer("n_layer", "slots", "n_head", "blocks", "head_dim", "key_block")
    return [keys, _buffer("n_layer", "slots", "n_head", "capacity", "head_dim")]


def _floats(*shape: int | str) -> TensorType:
    return TensorType(DType.float32, shape, _DEVICE)


def _bytes(*shape: int | str) -> TensorType:
    return TensorType(DType.uint8, shape, _DEVICE)


def _buffer(*shape: int | str) -> BufferType:
    return BufferType(DType.float32, shape, _DEVICE)
