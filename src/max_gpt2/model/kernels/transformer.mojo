"""The transformer as one operation: embeddings, all blocks and the final layer norm.

A block is h = x + attention(ln_1(x)), y = h + mlp(ln_2(h)). One team of threads runs all phases of all layers, since
returning to MAX's scheduler after each layer would cost more than the barriers. The result is bitwise identical to that
of the separate operations.

The operation returns only the tokens `logits_indices`. In the last layer the other tokens contribute their keys and
values, which these tokens attend to; everything after that is computed for the R returned tokens only. In all layers
but the last, R is M.
"""

import extensibility
from max.gpu.host import DeviceContext

from .attention import attention, attention_at
from .embedding import Tokens, embed
from .gemv import PartialSums
from .kv_cache import LayerCache, RaggedBatch
from .layer_norm import NormWeights, layer_norm
from .linear import linear, linear_residual
from .matrix import LinearWeights, Matrix, Workspace, gather_rows
from .threads import ThreadTeam, run_team
from .tuning import GEMV_MAX_ROWS
from .types import F32, FloatBuffer5D, FloatBuffer6D, FloatTensor1D, IntTensor1D, IntTensor2D, ResultTensor2D
from .types import UntrackedBytes, UntrackedFloats, UntrackedInts, untracked, untracked_ints
from .weights import Table


@extensibility.register("gpt2.transformer")
struct Transformer:
    """Apply the transformer with a contiguous cache -> [rows, n_embd], the final hidden states at `logits_indices`.

    ids and positions are [tokens], logits_indices [rows], model is that of `ModelTable`, ln_f the weight [n_embd] of
    the final layer norm. `kv_cache.mojo` has the shapes of the cache. `logits_indices` ascend; if they are as many as
    the tokens, they are all tokens.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        ids: IntTensor1D,
        positions: IntTensor1D,
        logits_indices: IntTensor1D,
        model: IntTensor1D,
        ln_f: FloatTensor1D,
        keys: FloatBuffer6D,
        values: FloatBuffer5D,
        row_offsets: IntTensor1D,
        cache_lengths: IntTensor1D,
        slots: IntTensor1D,
        ctx: DeviceContext,
    ) raises:
        var table = ModelTable(model, ln_f)
        var cache = LayerCache.contiguous(keys, values, slots)
        var batch = RaggedBatch(row_offsets, cache_lengths, ids.dim_size(0))
        debug_assert[assert_mode="safe"](slots.dim_size(0) == batch.size, "slots is not [batch]")
        _transformer(y, ids, positions, logits_indices, table, cache, batch)


@extensibility.register("gpt2.paged_transformer")
struct PagedTransformer:
    """Apply the transformer with a paged cache -> [rows, n_embd]; the other operands are those of `Transformer`."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: ResultTensor2D,
        ids: IntTensor1D,
        positions: IntTensor1D,
        logits_indices: IntTensor1D,
        model: IntTensor1D,
        ln_f: FloatTensor1D,
        blocks: FloatBuffer6D,
        row_offsets: IntTensor1D,
        cache_lengths: IntTensor1D,
        lookup_table: IntTensor2D,
        ctx: DeviceContext,
    ) raises:
        var table = ModelTable(model, ln_f)
        var cache = LayerCache.paged(blocks, lookup_table)
        var batch = RaggedBatch(row_offsets, cache_lengths, ids.dim_size(0))
        debug_assert[assert_mode="safe"](lookup_table.dim_size(0) == batch.size, "lookup_table is not [batch, pages]")
        _transformer(y, ids, positions, logits_indices, table, cache, batch)


struct ModelTable(TrivialRegisterPassable):
    """The addresses and types of all weights, and the sizes of the model, in one tensor of int64.

    The caller keeps the weights alive and in place. So a compiled graph contains neither weights nor sizes, and serves
    every model. `max_gpt2.model.table` makes the table:

    index                  content
    0                      type of the head, which the operations after this one read
    1 .. 8                 n_layer, n_inner, eps as the bits of a float32; wte, its type, wpe, ln_f.bias; the activation
                           function of the MLP
    HEADER + 18 * layer    ln_1.weight, ln_1.bias, ln_2.weight, ln_2.bias; weight, type and bias of c_attn, attn_proj,
                           c_fc and mlp_proj; the scale of the attention scores as the bits of a float32; the layer of
                           the cache
    """

    comptime HEADER = 9
    comptime LAYER = 18

    var entries: UntrackedInts
    var ln_f: UntrackedFloats
    var n_embd: Int

    @always_inline
    def __init__(out self, model: IntTensor1D, ln_f: FloatTensor1D):
        """Wrap the operands of the graph, and check the length of the table."""
        self.entries = untracked_ints(model)
        self.ln_f = untracked(ln_f.unsafe_ptr())
        self.n_embd = ln_f.dim_size(0)
        var length = Self.HEADER + Self.LAYER * self.n_layer()
        debug_assert[assert_mode="safe"](model.dim_size(0) == length, "the table does not have n_layer layers")

    @always_inline
    def int(self, index: Int) -> Int:
        """Return an entry."""
        return Int(self.entries.unsafe_load(index))

    @always_inline
    def float(self, index: Int) -> Scalar[F32]:
        """Return an entry that holds the bits of a float32."""
        return self.entries.unsafe_offset(index).unsafe_bitcast[Scalar[F32]]().unsafe_load(0)

    @always_inline
    def bytes(self, index: Int) -> UntrackedBytes:
        """Return an entry that is an address."""
        return UntrackedBytes(unsafe_from_address=self.int(index))

    @always_inline
    def floats(self, index: Int) -> UntrackedFloats:
        """Return an entry that is the address of float32 values."""
        return self.bytes(index).unsafe_bitcast[Scalar[F32]]()

    @always_inline
    def n_layer(self) -> Int:
        """Return the number of layers."""
        return self.int(1)

    @always_inline
    def n_inner(self) -> Int:
        """Return the width of the hidden layer of the MLP."""
        return self.int(2)

    @always_inline
    def tokens(self, ids: IntTensor1D, positions: IntTensor1D) -> Tokens:
        """Return the tokens of a batch with their embeddings."""
        var wte = Table(self.bytes(4), self.int(5), self.n_embd)
        return Tokens(untracked_ints(ids), untracked_ints(positions), wte, self.floats(6))

    @always_inline
    def final_norm(self) -> NormWeights:
        """Return the parameters of the final layer norm."""
        return NormWeights(self.ln_f, self.floats(7), self.n_embd, self.float(3))


struct BlockWeights(TrivialRegisterPassable):
    """The parameters of a block, under the names of the checkpoint. C is n_embd, I is n_inner."""

    var ln_1: NormWeights  # [C]
    var c_attn: LinearWeights  # [C, 3 * C]: queries, keys, values
    var attn_proj: LinearWeights  # [C, C]
    var ln_2: NormWeights  # [C]
    var c_fc: LinearWeights  # [C, I]
    var mlp_proj: LinearWeights  # [I, C]
    var activation: Int  # of the MLP
    var scale: Scalar[F32]  # of the attention scores
    var cache_layer: Int

    @always_inline
    def __init__(out self, table: ModelTable, layer: Int):
        """Read the entries of a layer."""
        var at = ModelTable.HEADER + layer * ModelTable.LAYER
        var C = table.n_embd
        var I = table.n_inner()

        def linear(index: Int, K: Int, N: Int) {var} -> LinearWeights:
            return LinearWeights(table.bytes(at + index), table.int(at + index + 1), table.floats(at + index + 2), K, N)

        self.ln_1 = NormWeights(table.floats(at), table.floats(at + 1), C, table.float(3))
        self.ln_2 = NormWeights(table.floats(at + 2), table.floats(at + 3), C, table.float(3))
        self.c_attn = linear(4, C, 3 * C)
        self.attn_proj = linear(7, C, C)
        self.c_fc = linear(10, C, I)
        self.mlp_proj = linear(13, I, C)
        self.activation = table.int(8)
        self.scale = table.float(at + 16)
        self.cache_layer = table.int(at + 17)


struct _Buffers(TrivialRegisterPassable):
    """The intermediate results of all layers, in one workspace. M tokens come in; C is n_embd, I n_inner.

    name          shape     layout    written by                     read by
    x             [M, C]    padded    embed, mlp_proj                ln_1, attn_proj
    normed        [M, C]    blocked   ln_1, ln_2                     c_attn, c_fc
    qkv           [M, 3*C]  padded    c_attn                         attention
    attended      [M, C]    blocked   attention                      attn_proj
    queries       [M, C]    padded    c_attn, in the last layer      attention
    residual      [M, C]    padded    attn_proj, with x added        ln_2, mlp_proj
    hidden        [M, I]    blocked   c_fc                           mlp_proj
    sums                    panels    gemv                           reduce_partial_sums

    Two groups share memory: `queries` and `residual`, since attention has read the queries before attn_proj writes;
    `hidden` with `qkv` and `attended`, since attn_proj has read them before c_fc writes.
    """

    var x: Matrix
    var normed: Matrix
    var qkv: Matrix
    var attended: Matrix
    var queries: Matrix
    var residual: Matrix
    var hidden: Matrix
    var sums: UntrackedFloats

    @staticmethod
    def size(M: Int, C: Int, I: Int) -> Int:
        """Return the total size of all buffers in floats."""
        var rows = 2 * Matrix.padded_size(M, C) + Matrix.blocked_size(M, C)
        return rows + _Buffers._shared_size(M, C, I) + _Buffers._sums_size(M, C, I)

    def __init__(out self, mut workspace: Workspace, M: Int, C: Int, I: Int):
        """Allocate the buffers in a workspace of `size(M, C, I)` floats."""
        self.x = Matrix.padded(workspace.take(Matrix.padded_size(M, C)), C)
        self.residual = Matrix.padded(workspace.take(Matrix.padded_size(M, C)), C)
        self.queries = self.residual
        self.normed = Matrix.blocked(workspace.take(Matrix.blocked_size(M, C)), M)
        var shared = workspace.take(_Buffers._shared_size(M, C, I))
        self.qkv = Matrix.padded(shared, 3 * C)
        self.attended = Matrix.blocked(shared.unsafe_offset(Matrix.padded_size(M, 3 * C)), M)
        self.hidden = Matrix.blocked(shared, M)
        self.sums = workspace.take(_Buffers._sums_size(M, C, I))

    @staticmethod
    def _shared_size(M: Int, C: Int, I: Int) -> Int:
        """Return the size in floats of the memory that qkv and attended share with hidden."""
        return max(Matrix.padded_size(M, 3 * C) + Matrix.blocked_size(M, C), Matrix.blocked_size(M, I))

    @staticmethod
    def _sums_size(M: Int, C: Int, I: Int) -> Int:
        """Return the size in floats of the partial sums of the largest linear layer, for any number of rows up to M."""
        var rows = min(M, GEMV_MAX_ROWS)
        return max(PartialSums.size(rows, C, max(3 * C, I)), PartialSums.size(rows, I, C))


#: The most phases of a block.
comptime BLOCK_PHASES = 16


def _transformer(
    y: ResultTensor2D,
    ids: IntTensor1D,
    positions: IntTensor1D,
    logits_indices: IntTensor1D,
    table: ModelTable,
    cache: LayerCache,
    batch: RaggedBatch,
) raises:
    """Check the shapes, allocate the buffers and run all phases."""
    var M = ids.dim_size(0)
    var R = logits_indices.dim_size(0)
    var C = table.n_embd
    cache.check(batch, C)
    debug_assert[assert_mode="safe"](positions.dim_size(0) == M, "positions and ids are not both [tokens]")
    debug_assert[assert_mode="safe"](y.dim_size(0) == R and y.dim_size(1) == C, "y is not [rows, n_embd]")
    debug_assert[assert_mode="safe"](R <= M, "there are more logits_indices than tokens")
    var tokens = table.tokens(ids, positions)
    var indices = untracked_ints(logits_indices)  # [R]
    var y_rows = Matrix.row_major(y)  # [R, C]
    var workspace = Workspace(_Buffers.size(M, C, table.n_inner()))
    var buffers = _Buffers(workspace, M, C, table.n_inner())
    var layers = table.n_layer()

    def work(mut team: ThreadTeam) {var}:
        embed(team, tokens, buffers.x, M)
        for index in range(layers):
            var layer = BlockWeights(table, index)
            var layer_cache = cache.layer(layer.cache_layer)
            layer_norm(team, buffers.x, layer.ln_1, buffers.normed, M)
            if R == M or index + 1 < layers:
                linear(team, buffers.normed, layer.c_attn, buffers.qkv, M, buffers.sums)
                attention(team, buffers.qkv, layer_cache, batch, buffers.attended, layer.scale)
                _after_attention(team, layer, buffers, buffers.x, M)
            else:
                _attend_at(team, layer, buffers, layer_cache, batch, indices, M, R)
                gather_rows(team, buffers.x, indices, y_rows, R, C)
                _after_attention(team, layer, buffers, y_rows, R)
        layer_norm(team, buffers.x if R == M else y_rows, table.final_norm(), y_rows, R)

    run_team(BLOCK_PHASES * layers + 2, work)
    workspace.free()


def _attend_at(
    mut team: ThreadTeam,
    layer: BlockWeights,
    buffers: _Buffers,
    cache: LayerCache,
    batch: RaggedBatch,
    indices: UntrackedInts,
    M: Int,
    R: Int,
):
    """Compute the attention of the R tokens `indices` only, to the keys and values of all M tokens."""
    var C = layer.ln_1.N
    linear(team, buffers.normed, layer.c_attn.columns(C, 3 * C), buffers.qkv, M, buffers.sums)
    gather_rows(team, buffers.normed, indices, buffers.attended, R, C)
    linear(team, buffers.attended, layer.c_attn.columns(0, C), buffers.queries, R, buffers.sums)
    attention_at(team, buffers.qkv, buffers.queries, indices, R, cache, batch, buffers.attended, layer.scale)


@always_inline
def _after_attention(mut team: ThreadTeam, layer: BlockWeights, buffers: _Buffers, x: Matrix, M: Int):
    """Compute the rest of a block for M tokens, whose residual stream is x; store the result in x."""
    linear_residual(team, buffers.attended, layer.attn_proj, x, buffers.residual, M, buffers.sums)
    layer_norm(team, buffers.residual, layer.ln_2, buffers.normed, M)
    linear(team, buffers.normed, layer.c_fc, buffers.hidden, M, buffers.sums, layer.activation)
    linear_residual(team, buffers.hidden, layer.mlp_proj, buffers.residual, x, M, buffers.sums)
