"""What all kernels are written in: float32, and vectors as wide as the processor has them."""

from std.sys import PrefetchOptions, prefetch, simd_width_of

comptime F = DType.float32
comptime W = simd_width_of[F]()
comptime Vector = SIMD[F, W]
comptime Floats = Pointer[Scalar[F], _]
comptime MutFloats = Pointer[mut=True, Scalar[F], _]
#: Of memory that somebody keeps while an operation runs: the graph, or who made room.
comptime HeldFloats = Pointer[mut=True, Scalar[F], MutUntrackedOrigin]
comptime Ids = Pointer[Scalar[DType.int64], _]

#: AVX-512 has 32 registers, which hold larger tiles than the 16 of AVX2.
comptime MANY_REGISTERS = W >= 16


@always_inline
def held(address: Floats) -> HeldFloats:
    """The same address, for whoever knows that the memory is kept."""
    return address.unsafe_mut_cast[True]().unsafe_origin_cast[MutUntrackedOrigin]()


@always_inline
def fetch(address: Floats):
    """Ask for a line that is needed soon, into the second cache: for the first, a core can ask for a few at a time.

    An address outside of the array does no harm.
    """
    prefetch[PrefetchOptions().for_read().medium_locality().to_data_cache()](address)


@always_inline
def load_part(x: Floats, count: Int) -> Vector:
    """The first `count` numbers as a vector, filled up with zeros."""
    if count >= W:
        return x.unsafe_load[width=W](0)
    var vector = Vector(0)
    for lane in range(count):
        vector[lane] = x.unsafe_load(lane)
    return vector


@always_inline
def store_part(x: MutFloats, vector: Vector, count: Int):
    """Store the first `count` numbers of a vector."""
    if count >= W:
        x.unsafe_store(0, vector)
    else:
        for lane in range(count):
            x.unsafe_store(lane, vector[lane])
