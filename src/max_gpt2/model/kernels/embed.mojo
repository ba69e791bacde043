"""What each token means and where it stands: a row of each of two tables, added."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext


@extensibility.register("gpt2.embed")
struct Embed:
    """[tokens] and [tokens] of int64, [vocab, n_embd], [n_positions, n_embd] -> [tokens, n_embd]."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=2, ...],
        ids: InputTensor[dtype=DType.int64, rank=1, ...],
        positions: InputTensor[dtype=DType.int64, rank=1, ...],
        wte: InputTensor[dtype=DType.float32, rank=2, ...],
        wpe: InputTensor[dtype=DType.float32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        var N = wte.dim_size(1)
        for m in range(ids.dim_size(0)):
            var token = wte.unsafe_ptr().unsafe_offset(Int(ids.unsafe_ptr().unsafe_load(m)) * N)
            var position = wpe.unsafe_ptr().unsafe_offset(Int(positions.unsafe_ptr().unsafe_load(m)) * N)
            for i in range(N):
                y.unsafe_ptr().unsafe_store(m * N + i, token.unsafe_load(i) + position.unsafe_load(i))
