"""The rate of fused multiply-adds in registers, which bounds prefill and scoring."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import DeviceRef, TensorType, TensorValue, ops

from max_gpt2.model.compile import compile_for_cpu
from max_gpt2.model.ops_mojo import MojoOps

#: CHAINS * STEPS * 16 of kernels/__init__.mojo, with two operations for each multiply-add.
_OPERATIONS_PER_ROW = 2 * 12 * 2**22 * 16


class _Kernels(MojoOps):
    extensions: Sequence[Path] = (Path(__file__).parent / "kernels",)


class _MultiplyAdd(Module[..., Tensor]):
    def forward(self, x: Tensor) -> Tensor:
        types = [TensorType(DType.float32, [x.shape[0], 1], DeviceRef.CPU())]
        results = ops.custom("bench.multiply_add", DeviceRef.CPU(), [TensorValue(x)], types)
        return Tensor.from_graph_value(results[0].tensor)


def peak(runs: int = 9) -> float:
    """Measure the floating-point operations per second of multiply-adds in registers, on all cores: a median."""
    types = [TensorType(DType.float32, ["rows", 2], device=CPU())]
    run = compile_for_cpu(_MultiplyAdd, types, {}, _Kernels()).execute_raw
    rows = os.cpu_count() or 1
    x = Buffer.from_numpy(np.full((rows, 2), 0.5, np.float32))
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        run(x)
        seconds.append(time.perf_counter() - started)
    return rows * _OPERATIONS_PER_ROW / statistics.median(seconds[1:])
