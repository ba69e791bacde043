"""Fused multiply-adds in registers, for `bench.peak`."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.sys import simd_width_of

comptime F32 = DType.float32
comptime W = simd_width_of[F32]()
#: Independent sums. Two units with a latency of four cycles need eight; AVX2 has 16 registers.
comptime CHAINS = 12
#: Multiply-adds of 16 lanes in each chain.
comptime STEPS = 1 << 22


@extensibility.register("bench.multiply_add")
struct MultiplyAdd:
    """Compute CHAINS * STEPS * 16 multiply-adds for each row of x, in parallel: x [rows, 2] -> y [rows, 1]."""

    @staticmethod
    def execute[
        target: StaticString
    ](y: OutputTensor[dtype=F32, rank=2, ...], x: InputTensor[dtype=F32, rank=2, ...], ctx: DeviceContext) raises:
        var operands = x.unsafe_ptr()
        var results = y.unsafe_ptr()

        def work(row: Int) {var}:
            var factor = SIMD[F32, W](operands.unsafe_load(2 * row))
            var addend = SIMD[F32, W](operands.unsafe_load(2 * row + 1))
            var sums = Array[SIMD[F32, W], CHAINS](fill=addend)
            for _ in range(STEPS * 16 // W):
                comptime for chain in range(CHAINS):
                    sums[chain] = sums[chain].fma(factor, addend)
            var total = SIMD[F32, W](0)
            comptime for chain in range(CHAINS):
                total += sums[chain]
            results.unsafe_store(row, total.reduce_add())

        sync_parallelize(work, x.dim_size(0))
