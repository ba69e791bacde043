"""The rate of fused multiply-adds in registers, which bounds prefill and scoring."""

import os
import statistics
import time
from pathlib import Path

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.engine import InferenceSession
from max.graph import DeviceRef, Graph, TensorType, ops

#: CHAINS * STEPS * 16 of kernels/__init__.mojo, with two operations for each multiply-add.
_OPERATIONS_PER_ROW = 2 * 12 * 2**22 * 16


_KERNELS = Path(__file__).parent / "kernels"


def peak(runs: int = 9) -> float:
    """Measure the floating-point operations per second of multiply-adds in registers, on all cores: a median."""
    device = DeviceRef.CPU()
    with Graph(
        "peak", input_types=[TensorType(DType.float32, ["rows", 2], device)], custom_extensions=[_KERNELS]
    ) as graph:
        result = TensorType(DType.float32, ["rows", 1], device)
        graph.output(*ops.custom("bench.multiply_add", device, list(graph.inputs), [result]))
    run = InferenceSession(devices=[CPU()]).load(graph, custom_extensions=[_KERNELS]).execute
    rows = os.cpu_count() or 1
    x = Buffer.from_numpy(np.full((rows, 2), 0.5, np.float32))
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        run(x)
        seconds.append(time.perf_counter() - started)
    return rows * _OPERATIONS_PER_ROW / statistics.median(seconds[1:])
