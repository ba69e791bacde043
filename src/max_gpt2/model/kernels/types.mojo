"""Scalar, vector and tensor types of the kernels, and their loads, stores and prefetches.

Everything is computed in float32; `weights.mojo` has the other types in which weights are stored. A vector is as wide
as the processor's registers: the same source serves AVX2, AVX-512 and NEON.
"""

from extensibility import InputTensor, OutputTensor
from extensibility.managed_tensor_slice import _MutableInputTensor
from std.sys import PrefetchOptions, prefetch, simd_width_of

comptime F32 = DType.float32
comptime I64 = DType.int64
comptime U8 = DType.uint8

#: Float32 lanes of a vector register: 16 with AVX-512, 8 with AVX2, 4 with NEON.
comptime W = simd_width_of[F32]()
comptime Vector = SIMD[F32, W]

#: Pointers to float32: read-only, and mutable.
comptime Floats = Pointer[Scalar[F32], _]
comptime MutFloats = Pointer[mut=True, Scalar[F32], _]
#: Pointers without a tracked lifetime. The graph or the caller keeps the memory alive while the operation runs.
comptime UntrackedFloats = Pointer[mut=True, Scalar[F32], MutUntrackedOrigin]
comptime UntrackedInts = Pointer[mut=True, Scalar[I64], MutUntrackedOrigin]
comptime UntrackedBytes = Pointer[mut=True, Scalar[U8], MutUntrackedOrigin]

#: Operands of the graph, by rank.
comptime FloatTensor1D = InputTensor[dtype=F32, rank=1, ...]
comptime FloatTensor2D = InputTensor[dtype=F32, rank=2, ...]
comptime IntTensor1D = InputTensor[dtype=I64, rank=1, ...]
comptime IntTensor2D = InputTensor[dtype=I64, rank=2, ...]
comptime ByteTensor1D = InputTensor[dtype=U8, rank=1, ...]
comptime ByteTensor2D = InputTensor[dtype=U8, rank=2, ...]
comptime ResultTensor2D = OutputTensor[dtype=F32, rank=2, ...]
comptime FloatBuffer5D = _MutableInputTensor[dtype=F32, rank=5, ...]
comptime FloatBuffer6D = _MutableInputTensor[dtype=F32, rank=6, ...]


@always_inline
def untracked(pointer: Floats) -> UntrackedFloats:
    """Return the same address without its lifetime, for memory that outlives the operation."""
    return pointer.unsafe_mut_cast[True]().unsafe_origin_cast[MutUntrackedOrigin]()


@always_inline
def untracked_ints(tensor: InputTensor[dtype=I64, ...]) -> UntrackedInts:
    """Return the address of an int64 tensor without its lifetime."""
    return tensor.unsafe_ptr().unsafe_mut_cast[True]().unsafe_origin_cast[MutUntrackedOrigin]()


@always_inline
def untracked_bytes(tensor: InputTensor[dtype=U8, ...]) -> UntrackedBytes:
    """Return the address of a tensor of bytes without its lifetime."""
    return tensor.unsafe_ptr().unsafe_mut_cast[True]().unsafe_origin_cast[MutUntrackedOrigin]()


@always_inline
def prefetch_l2[dtype: DType, //](pointer: Pointer[Scalar[dtype], _]):
    """Prefetch a cache line into L2.

    A core has few outstanding requests for L1, so prefetching into L1 would make the arithmetic wait. An address
    outside of the array is harmless.
    """
    prefetch[PrefetchOptions().for_read().medium_locality().to_data_cache()](pointer)


@always_inline
def load_masked(x: Floats, count: Int) -> Vector:
    """Load `count` floats, at most `W`, and fill the other lanes with zeros."""
    if count >= W:
        return x.unsafe_load[width=W](0)
    var vector = Vector(0)
    for lane in range(count):
        vector[lane] = x.unsafe_load(lane)
    return vector


@always_inline
def store_masked(x: MutFloats, vector: Vector, count: Int):
    """Store the first `count` lanes of a vector, at most `W`."""
    if count >= W:
        x.unsafe_store(0, vector)
    else:
        for lane in range(count):
            x.unsafe_store(lane, vector[lane])
