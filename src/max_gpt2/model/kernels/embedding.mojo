"""The input embedding, token embedding + learned position embedding: Radford et al. 2018, section 3.1."""

import extensibility
from max.gpu.host import DeviceContext

from .types import FloatTensor2D, IntTensor1D, ResultTensor2D


@extensibility.register("gpt2.embed")
struct Embed:
    """Add two embeddings: ids [tokens], positions [tokens], wte [vocab, n_embd], wpe [n_positions, n_embd] ->
    [tokens, n_embd].
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        ids: IntTensor1D,
        positions: IntTensor1D,
        wte: FloatTensor2D,
        wpe: FloatTensor2D,
        ctx: DeviceContext,
    ) raises:
        var M = ids.dim_size(0)
        var N = wte.dim_size(1)
        debug_assert[assert_mode="safe"](positions.dim_size(0) == M, "positions and ids are not both [tokens]")
        debug_assert[assert_mode="safe"](wpe.dim_size(1) == N, "wpe and wte do not have the same n_embd")
        debug_assert[assert_mode="safe"](y.dim_size(0) == M and y.dim_size(1) == N, "y is not [tokens, n_embd]")
        for m in range(M):
            var id = Int(ids.unsafe_ptr().unsafe_load(m))
            var position = Int(positions.unsafe_ptr().unsafe_load(m))
            debug_assert(0 <= id < wte.dim_size(0), "token id ", id, " is not in [0, vocab)")
            debug_assert(0 <= position < wpe.dim_size(0), "position ", position, " is not in [0, n_positions)")
            var token_row = wte.unsafe_ptr().unsafe_offset(id * N)
            var position_row = wpe.unsafe_ptr().unsafe_offset(position * N)
            for i in range(N):
                y.unsafe_ptr().unsafe_store(m * N + i, token_row.unsafe_load(i) + position_row.unsafe_load(i))
