"""The input embedding, token embedding + learned position embedding: Radford et al. 2018, section 3.1."""

import extensibility
from max.gpu.host import DeviceContext
from std.math import ceildiv

from .matrix import Matrix
from .threads import ThreadTeam, run_team
from .tuning import ROWS_PER_ITEM
from .types import ByteTensor2D, FloatTensor2D, IntTensor1D, ResultTensor2D, UntrackedFloats, UntrackedInts, W
from .types import load_masked, store_masked, untracked, untracked_bytes, untracked_ints
from .weights import Table, row_bytes


@extensibility.register("gpt2.embed")
struct Embed:
    """Add two embeddings: ids [tokens], positions [tokens], wte [vocab, bytes of a row], its type [1],
    wpe [n_positions, n_embd] -> [tokens, n_embd].
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        ids: IntTensor1D,
        positions: IntTensor1D,
        wte: ByteTensor2D,
        type: IntTensor1D,
        wpe: FloatTensor2D,
        ctx: DeviceContext,
    ) raises:
        var M = ids.dim_size(0)
        var table = Table(untracked_bytes(wte), Int(type.unsafe_ptr().unsafe_load(0)), wpe.dim_size(1))
        debug_assert[assert_mode="safe"](
            wte.dim_size(1) == row_bytes(table.type, table.K), "wte is not [vocab, n_embd]"
        )
        debug_assert[assert_mode="safe"](positions.dim_size(0) == M, "positions and ids are not both [tokens]")
        debug_assert[assert_mode="safe"](y.dim_size(0) == M and y.dim_size(1) == table.K, "y is not [tokens, n_embd]")
        for m in range(M):
            var id = ids.unsafe_ptr().unsafe_load(m)
            var position = positions.unsafe_ptr().unsafe_load(m)
            debug_assert(0 <= Int(id) < wte.dim_size(0), "token id ", id, " is not in [0, vocab)")
            debug_assert(0 <= Int(position) < wpe.dim_size(0), "position ", position, " is not in [0, n_positions)")
        var tokens = Tokens(untracked_ints(ids), untracked_ints(positions), table, untracked(wpe.unsafe_ptr()))
        var y_rows = Matrix.row_major(y)  # [tokens, n_embd]

        def work(mut team: ThreadTeam) {var}:
            embed(team, tokens, y_rows, M)

        run_team(1, work)


@fieldwise_init
struct Tokens(TrivialRegisterPassable):
    """The tokens of a batch, with the embeddings of tokens and positions."""

    var ids: UntrackedInts  # [tokens]
    var positions: UntrackedInts  # [tokens]
    var wte: Table  # [vocab, n_embd]
    var wpe: UntrackedFloats  # [n_positions, n_embd]


@always_inline
def embed(mut team: ThreadTeam, tokens: Tokens, y: Matrix, M: Int):
    """Compute the embeddings y, [M, n_embd], in one phase. Rows of y are contiguous."""

    def rows(item: Int) {var}:
        for m in range(item * ROWS_PER_ITEM, min((item + 1) * ROWS_PER_ITEM, M)):
            _embed_token(tokens, y.ptr(m, 0), m)

    team.phase(ceildiv(M, ROWS_PER_ITEM), rows)


def _embed_token(tokens: Tokens, y: UntrackedFloats, m: Int):
    var N = tokens.wte.K
    tokens.wte.row(Int(tokens.ids.unsafe_load(m))).decode_rows(1, y, N)
    var position = tokens.wpe.unsafe_offset(Int(tokens.positions.unsafe_load(m)) * N)
    for n in range(0, N, W):
        var sum = load_masked(y.unsafe_offset(n), N - n) + load_masked(position.unsafe_offset(n), N - n)
        store_masked(y.unsafe_offset(n), sum, N - n)
