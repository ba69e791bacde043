"""A transformer block as one operation: h = x + attention(ln_1(x)), y = h + mlp(ln_2(h)).

One team of threads runs all phases. The result is bitwise identical to that of the separate operations.

A block returns only the tokens `logits_indices`. The other tokens contribute their keys and values, which these tokens
attend to; everything after that is computed for the R returned tokens only. In all layers but the last, R is M.
"""

import extensibility
from extensibility import InputVariadicTensors
from max.gpu.host import DeviceContext

from .attention import attention, attention_at
from .gemv import PartialSums
from .kv_cache import LayerCache, RaggedBatch
from .layer_norm import NormWeights, layer_norm
from .linear import linear, linear_residual
from .matrix import LinearWeights, Matrix, Workspace, gather_rows
from .threads import ThreadTeam, run_team
from .types import F32, I64, FloatBuffer5D, FloatBuffer6D, FloatTensor2D, IntTensor1D, IntTensor2D, ResultTensor2D
from .types import UntrackedFloats, untracked_ints

#: ln_1.weight, ln_1.bias, ln_2.weight, ln_2.bias, and the biases of c_attn, attn_proj, c_fc and mlp_proj. The graph
#: allows an operation one list of tensors, all of the same rank.
comptime BlockVectors = InputVariadicTensors[dtype=F32, rank=1, size=8, ...]


@extensibility.register("gpt2.block")
struct Block:
    """Apply a block with a contiguous cache: x [tokens, n_embd], logits_indices [rows] -> [rows, n_embd].

    `kv_cache.mojo` has the shapes of the cache. `logits_indices` ascend; if they are as many as the
    tokens, they are all tokens.
    """

    @staticmethod
    def execute[
        target: StaticString, activation: StaticString
    ](
        y: ResultTensor2D,
        x: FloatTensor2D,
        logits_indices: IntTensor1D,
        c_attn: FloatTensor2D,
        attn_proj: FloatTensor2D,
        c_fc: FloatTensor2D,
        mlp_proj: FloatTensor2D,
        vectors: BlockVectors,
        keys: FloatBuffer5D,
        values: FloatBuffer5D,
        row_offsets: IntTensor1D,
        cache_lengths: IntTensor1D,
        slots: IntTensor1D,
        layer: Scalar[I64],
        scale: Scalar[F32],
        eps: Scalar[F32],
        ctx: DeviceContext,
    ) raises:
        var weights = BlockWeights(c_attn, attn_proj, c_fc, mlp_proj, vectors, eps)
        var cache = LayerCache.contiguous(keys, values, slots, Int(layer))
        var batch = RaggedBatch(row_offsets, cache_lengths, x.dim_size(0))
        debug_assert[assert_mode="safe"](slots.dim_size(0) == batch.size, "slots is not [batch]")
        _block[activation](y, x, logits_indices, weights, cache, batch, scale)


@extensibility.register("gpt2.paged_block")
struct PagedBlock:
    """Apply a block with a paged cache: x [tokens, n_embd], logits_indices [rows] -> [rows, n_embd]."""

    @staticmethod
    def execute[
        target: StaticString, activation: StaticString
    ](
        y: ResultTensor2D,
        x: FloatTensor2D,
        logits_indices: IntTensor1D,
        c_attn: FloatTensor2D,
        attn_proj: FloatTensor2D,
        c_fc: FloatTensor2D,
        mlp_proj: FloatTensor2D,
        vectors: BlockVectors,
        blocks: FloatBuffer6D,
        row_offsets: IntTensor1D,
        cache_lengths: IntTensor1D,
        lookup_table: IntTensor2D,
        layer: Scalar[I64],
        scale: Scalar[F32],
        eps: Scalar[F32],
        ctx: DeviceContext,
    ) raises:
        var weights = BlockWeights(c_attn, attn_proj, c_fc, mlp_proj, vectors, eps)
        var cache = LayerCache.paged(blocks, lookup_table, Int(layer))
        var batch = RaggedBatch(row_offsets, cache_lengths, x.dim_size(0))
        debug_assert[assert_mode="safe"](lookup_table.dim_size(0) == batch.size, "lookup_table is not [batch, pages]")
        _block[activation](y, x, logits_indices, weights, cache, batch, scale)


struct BlockWeights(TrivialRegisterPassable):
    """The parameters of a block, under the names of the checkpoint. C is n_embd, I is n_inner."""

    var ln_1: NormWeights  # [C]
    var c_attn: LinearWeights  # [C, 3 * C]: queries, keys, values
    var attn_proj: LinearWeights  # [C, C]
    var ln_2: NormWeights  # [C]
    var c_fc: LinearWeights  # [C, I]
    var mlp_proj: LinearWeights  # [I, C]

    @always_inline
    def __init__(
        out self,
        c_attn: FloatTensor2D,
        attn_proj: FloatTensor2D,
        c_fc: FloatTensor2D,
        mlp_proj: FloatTensor2D,
        vectors: BlockVectors,
        eps: Scalar[F32],
    ):
        """Wrap the operands of the graph, and check that their shapes agree."""
        self.ln_1 = NormWeights(vectors[0], vectors[1], eps)
        self.c_attn = LinearWeights(c_attn, vectors[4])
        self.attn_proj = LinearWeights(attn_proj, vectors[5])
        self.ln_2 = NormWeights(vectors[2], vectors[3], eps)
        self.c_fc = LinearWeights(c_fc, vectors[6])
        self.mlp_proj = LinearWeights(mlp_proj, vectors[7])
        var C = self.n_embd()
        _check_layer(self.c_attn, C, 3 * C)
        _check_layer(self.attn_proj, C, C)
        _check_layer(self.c_fc, C, self.n_inner())
        _check_layer(self.mlp_proj, self.n_inner(), C)
        debug_assert[assert_mode="safe"](self.ln_2.N == C, "ln_1 and ln_2 do not have the same n_embd")

    @always_inline
    def n_embd(self) -> Int:
        """Return C."""
        return self.ln_1.N

    @always_inline
    def n_inner(self) -> Int:
        """Return I."""
        return self.c_fc.N


def _check_layer(layer: LinearWeights, K: Int, N: Int):
    debug_assert[assert_mode="safe"](
        layer.K == K and layer.N == N, "a weight is [", layer.K, ", ", layer.N, "] instead of [", K, ", ", N, "]"
    )


struct _Buffers(TrivialRegisterPassable):
    """The intermediate results of a block, in one workspace. M tokens come in, R are returned; C is n_embd, I n_inner.

    name          shape     layout    written by                     read by
    normed        [M, C]    blocked   ln_1, for R tokens ln_2        c_attn, c_fc
    qkv           [M, 3*C]  padded    c_attn                         attention
    attended      [R, C]    blocked   attention                      attn_proj
    queries       [R, C]    padded    c_attn, if R < M               attention
    residual      [R, C]    padded    attn_proj, with x added      ln_2, mlp_proj
    hidden        [R, I]    blocked   c_fc                           mlp_proj
    sums                    panels    gemv                           reduce_partial_sums

    Two groups share memory: `queries` and `residual`, since attention has read the queries before attn_proj writes;
    `hidden` with `qkv` and `attended`, since attn_proj has read them before c_fc writes.
    """

    var normed: Matrix
    var qkv: Matrix
    var attended: Matrix
    var queries: Matrix
    var residual: Matrix
    var hidden: Matrix
    var sums: UntrackedFloats

    @staticmethod
    def size(M: Int, R: Int, weights: BlockWeights) -> Int:
        """Return the total size of all buffers in floats."""
        var C = weights.n_embd()
        var shared = _Buffers._shared_size(M, R, weights)
        return Matrix.padded_size(R, C) + Matrix.blocked_size(M, C) + shared + _Buffers._sums_size(M, R, weights)

    def __init__(out self, mut workspace: Workspace, M: Int, R: Int, weights: BlockWeights):
        """Allocate the buffers in a workspace of `size(M, R, weights)` floats."""
        var C = weights.n_embd()
        self.residual = Matrix.padded(workspace.take(Matrix.padded_size(R, C)), C)
        self.queries = self.residual
        self.normed = Matrix.blocked(workspace.take(Matrix.blocked_size(M, C)), M)
        var shared = workspace.take(_Buffers._shared_size(M, R, weights))
        self.qkv = Matrix.padded(shared, 3 * C)
        self.attended = Matrix.blocked(shared.unsafe_offset(Matrix.padded_size(M, 3 * C)), R)
        self.hidden = Matrix.blocked(shared, R)
        self.sums = workspace.take(_Buffers._sums_size(M, R, weights))

    @staticmethod
    def _shared_size(M: Int, R: Int, weights: BlockWeights) -> Int:
        """Return the size in floats of the memory that qkv and attended share with hidden."""
        var C = weights.n_embd()
        var attention = Matrix.padded_size(M, 3 * C) + Matrix.blocked_size(R, C)
        return max(attention, Matrix.blocked_size(R, weights.n_inner()))

    @staticmethod
    def _sums_size(M: Int, R: Int, weights: BlockWeights) -> Int:
        """Return the size in floats of the partial sums of the largest linear layer."""
        var C = weights.n_embd()
        var I = weights.n_inner()
        return max(PartialSums.size(M, C, 3 * C), PartialSums.size(R, C, max(C, I)), PartialSums.size(R, I, C))


@always_inline
def _block[
    activation: StaticString
](
    y: ResultTensor2D,
    x: FloatTensor2D,
    logits_indices: IntTensor1D,
    weights: BlockWeights,
    cache: LayerCache,
    batch: RaggedBatch,
    scale: Scalar[F32],
) raises:
    """Check the shapes, allocate the buffers and run all phases."""
    var M = x.dim_size(0)
    var R = logits_indices.dim_size(0)
    var C = weights.n_embd()
    cache.check(batch, C)
    debug_assert[assert_mode="safe"](x.dim_size(1) == C, "x is not [tokens, n_embd]")
    debug_assert[assert_mode="safe"](y.dim_size(0) == R and y.dim_size(1) == C, "y is not [rows, n_embd]")
    debug_assert[assert_mode="safe"](R <= M, "there are more logits_indices than tokens")
    var indices = untracked_ints(logits_indices)  # [R]
    var x_rows = Matrix.row_major(x)  # [M, C]
    var y_rows = Matrix.row_major(y)  # [R, C]; before the last phase, the rows of x that are returned, if R < M
    var workspace = Workspace(_Buffers.size(M, R, weights))
    var buffers = _Buffers(workspace, M, R, weights)
    var sums = buffers.sums

    def work(mut team: ThreadTeam) {var}:
        layer_norm(team, x_rows, weights.ln_1, buffers.normed, M)
        var x_returned = x_rows  # [R, C]
        if R == M:
            linear["none"](team, buffers.normed, weights.c_attn, buffers.qkv, M, sums)
            attention(team, buffers.qkv, cache, batch, buffers.attended, scale)
        else:
            var keys_values = weights.c_attn.columns(C, 3 * C)
            linear["none"](team, buffers.normed, keys_values, buffers.qkv, M, sums)
            gather_rows(team, buffers.normed, indices, buffers.attended, R, C)
            linear["none"](team, buffers.attended, weights.c_attn.columns(0, C), buffers.queries, R, sums)
            attention_at(team, buffers.qkv, buffers.queries, indices, R, cache, batch, buffers.attended, scale)
            x_returned = y_rows
            gather_rows(team, x_rows, indices, x_returned, R, C)
        linear_residual(team, buffers.attended, weights.attn_proj, x_returned, buffers.residual, R, sums)
        layer_norm(team, buffers.residual, weights.ln_2, buffers.normed, R)
        linear[activation](team, buffers.normed, weights.c_fc, buffers.hidden, R, sums)
        linear_residual(team, buffers.hidden, weights.mlp_proj, buffers.residual, y_rows, R, sums)

    run_team(work)
    workspace.free()
