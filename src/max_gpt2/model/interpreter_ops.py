"""Compile the operations of a GPT-2 for MAX's interpreter in a single call.

The interpreter compiles each operation when it first runs it, and each such compilation takes about ten seconds:
three minutes for a block of GPT-2. Compiled together, all operations take less than one minute.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from max._core.dialects import mo
from max._interpreter_ops import (
    band_part_gc,
    data_movement_gc,
    elementwise_binary_gc,
    gather_gc,
    gc_compile,
    layer_norm_gc,
    matmul_gc,
    reduce_axis_gc,
    shape_rearrange_gc,
    unary_elementwise_gc,
)
from max._mlir_context import in_default_mlir_context
from max.driver import CPU, Device
from max.dtype import DType
from max.graph import Module

Family = gc_compile.GCOpFamily
Build = Callable[[Module], None]

_CPU, _F32 = CPU(), DType.float32
_BITS = gc_compile.uint_view_dtype(_F32)  # operations that only move data treat floats as unsigned integers

#: Requests for every operation that the tutorial's model runs, and for likely alternatives to them.
_REQUESTS: tuple[Callable[[], object], ...] = (
    partial(band_part_gc.band_part_model, _CPU, _BITS),
    partial(layer_norm_gc.layer_norm_model, _CPU, _F32),
    partial(matmul_gc.matmul_model, _CPU, _F32),
    partial(gather_gc.gather_model, mo.GatherOp, _CPU, _BITS, DType.int64),
    partial(shape_rearrange_gc.model, mo.SplitOp, _CPU, _BITS),
    *(partial(data_movement_gc.model, op, _CPU, _BITS) for op in (mo.BroadcastToOp, mo.TransposeOp)),
    *(
        partial(elementwise_binary_gc.binary_model, op, _CPU, _F32)
        for op in (mo.AddOp, mo.SubOp, mo.MulOp, mo.DivOp, mo.PowOp)
    ),
    *(
        partial(unary_elementwise_gc.unary_model, op, _CPU, _F32)
        for op in (mo.GeluTanhOp, mo.GeluOp, mo.TanhOp, mo.SqrtOp, mo.RsqrtOp)
    ),
    *(
        partial(reduce_axis_gc.reduce_model, op, _CPU, _F32)
        for op in (mo.ReduceSoftmaxOp, mo.ReduceLogsoftmaxOp, mo.ReduceMeanOp)
    ),
)


@cache
def compile_operations() -> None:
    """Compile the operations, once per process; later processes load them from MAX's cache on disk."""
    if targets := _targets():
        models = _load([build for *_, build in targets])
        for family, key, _device, _build in targets:
            family.cache[key] = models[key]


def _targets() -> list[tuple[Family, str, Device, Build]]:
    with _collected() as targets:
        for request in _REQUESTS:
            request()
    return targets


@contextmanager
def _collected() -> Iterator[list[tuple[Family, str, Device, Build]]]:
    """Collect the targets that the interpreter would compile one by one, instead of compiling them."""
    targets: list[tuple[Family, str, Device, Build]] = []
    compile_single_target = gc_compile.compile_single_target
    gc_compile.compile_single_target = lambda *target: targets.append(target)  # type: ignore[assignment]
    try:
        yield targets
    finally:
        gc_compile.compile_single_target = compile_single_target


@in_default_mlir_context
def _load(builds: list[Build]) -> dict[str, Any]:
    module = Module()
    for build in builds:
        build(module)
    return gc_compile.session_for(_CPU).load_all(module, weights_registry={})
