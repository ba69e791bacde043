"""Scores of given next tokens, fused with the language-model head: no [tokens, vocab] array exists.

The vocabulary is cut into chunks of SCORE_CHUNK rows of the weight, which stay in a core's cache while all tokens use
them. The logits of a tile of tokens and a chunk are reduced at once:

    for each part of the vocabulary         work item
      for each chunk of SCORE_CHUNK rows      [SCORE_CHUNK, K] of the weight: in L2
        for each HEAD_TOKENS tokens             [HEAD_TOKENS, K] of x: in L2
          for each HEAD_R rows                    [HEAD_R, K] of the weight: in L1
            for each HEAD_T tokens                  tile [HEAD_T, HEAD_R] of logits in registers
          for each token                          its sums over the chunk, its rank, its most likely ids

A last phase combines the chunks of each token in the order of the vocabulary, in float64. Neither the order nor the
size of a chunk depends on the threads, so a score is bitwise identical regardless of the rest of the batch. The logits
are those of `logits.mojo`.
"""

import extensibility
from extensibility import OutputTensor
from max.gpu.host import DeviceContext
from max.runtime.asyncrt import parallelism_level
from std.math import align_up, ceildiv, exp, iota, log
from std.utils.numerics import inf, nan

from .logits import Head
from .matrix import Matrix, Workspace, copy_rows
from .threads import ThreadTeam, WorkPartition, run_team
from .tuning import HEAD_TOKENS, ROWS_PER_ITEM, SCORE_CHUNK
from .types import F32, I64, ByteTensor2D, FloatTensor1D, FloatTensor2D, IntTensor1D, UntrackedFloats, UntrackedInts
from .types import Vector, W, load_masked, untracked, untracked_bytes, untracked_ints
from .weights import TYPE_F32, Table, row_bytes

comptime F64 = DType.float64
comptime I32 = DType.int32
comptime UntrackedDoubles = Pointer[mut=True, Scalar[F64], MutUntrackedOrigin]
#: The statistics of a token and a chunk: the largest logit, and the sums of e = exp(logit - largest), of
#: e * (logit - largest), and of e over the ids of the mask.
comptime STATISTICS = 4
#: Tokens that are combined in one vector.
comptime LANES = 8
comptime Lanes = SIMD[F64, LANES]
comptime INFINITY = inf[F32]()


@extensibility.register("gpt2.token_scores")
struct TokenScores:
    """Score tokens: x [rows, n_embd], weight [vocab, n_embd] as bytes, its type, targets [rows], mask [vocab],
    best [top] -> four results.

    `sums` [3, rows] are logprobs, entropies and logprobs of the mask; `ranks` is [rows]; `top_ids` and `top_logprobs`
    [rows, top] are the most likely ids, best first. The values of `best` do not matter. A negative target has the
    logprob NaN and the rank 0. Of equal logits the lower id comes first.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        sums: OutputTensor[dtype=F64, rank=2, ...],
        ranks: OutputTensor[dtype=I64, rank=1, ...],
        top_ids: OutputTensor[dtype=I64, rank=2, ...],
        top_logprobs: OutputTensor[dtype=F64, rank=2, ...],
        x: FloatTensor2D,
        weight: ByteTensor2D,
        type: IntTensor1D,
        targets: IntTensor1D,
        mask: FloatTensor1D,
        best: IntTensor1D,
        ctx: DeviceContext,
    ) raises:
        var M = x.dim_size(0)
        var K = x.dim_size(1)
        var N = weight.dim_size(0)
        var table = Table(untracked_bytes(weight), Int(type.unsafe_ptr().unsafe_load(0)), K)
        debug_assert[assert_mode="safe"](
            weight.dim_size(1) == row_bytes(table.type, K), "weight is not [vocab, n_embd]"
        )
        debug_assert[assert_mode="safe"](targets.dim_size(0) == M, "targets is not [rows]")
        debug_assert[assert_mode="safe"](mask.dim_size(0) == N, "mask is not [vocab]")
        var scores = _Scores(
            sums.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin](),
            ranks.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin](),
            top_ids.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin](),
            top_logprobs.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin](),
            untracked_ints(targets),
            M,
            best.dim_size(0),
        )
        var partition = WorkPartition(ceildiv(N, SCORE_CHUNK), parallelism_level(None))
        var workspace = Workspace(_Reduction.size(partition, M, K, scores.top))
        var x_ptr = untracked(x.unsafe_ptr())
        var target_logits = workspace.take(align_up(M, LANES))
        var head = Head(x_ptr, table.floats(), target_logits, K, K, 1)
        var reduction = _Reduction(workspace, partition, head, table, scores, untracked(mask.unsafe_ptr()), N)

        def work(mut team: ThreadTeam) {var}:
            def score_targets(item: Int) {var}:
                reduction.score_targets(item)

            def reduce_part(item: Int) {var}:
                reduction.reduce_part(item)

            def combine(item: Int) {var}:
                reduction.combine(item)

            copy_rows(team, Matrix.row_major(x), reduction.x, M, K)
            team.phase(ceildiv(M, ROWS_PER_ITEM), score_targets)
            team.phase(partition.count(), reduce_part)
            team.phase(ceildiv(M, LANES), combine)

        run_team(4, work)
        workspace.free()


@fieldwise_init
struct _Scores(TrivialRegisterPassable):
    """The results of M tokens, and the targets that they belong to."""

    var sums: UntrackedDoubles  # [3, M]: logprobs, entropies, logprobs of the mask
    var ranks: UntrackedInts  # [M]
    var top_ids: UntrackedInts  # [M, top]
    var top_logprobs: UntrackedDoubles  # [M, top]
    var targets: UntrackedInts  # [M]
    var M: Int
    var top: Int


struct _Reduction(TrivialRegisterPassable):
    """The operands and the intermediate results. P is the number of parts, C that of chunks, M that of tokens."""

    var partition: WorkPartition
    var head: Head  # x [M, K], y the logits of the targets, [M]
    var table: Table  # [N, K]
    var x: Matrix  # [M, K], padded
    var scores: _Scores
    var mask: UntrackedFloats  # [N]
    var N: Int
    var statistics: UntrackedFloats  # [C, STATISTICS, M rounded up to LANES]
    var ahead: UntrackedInts  # [P, M]: ids that are more likely than the target
    var best_ids: UntrackedInts  # [P, M, top], best first
    var best_logits: UntrackedFloats  # [P, M, top]

    @staticmethod
    def size(partition: WorkPartition, M: Int, K: Int, top: Int) -> Int:
        """Return the size of all intermediate results, and of the logits of the targets, in floats."""
        var statistics = align_up(M, LANES) * (1 + STATISTICS * partition.length)
        return Matrix.padded_size(M, K) + statistics + partition.count() * M * (2 + 3 * top)

    def __init__(
        out self,
        mut workspace: Workspace,
        partition: WorkPartition,
        head: Head,
        table: Table,
        scores: _Scores,
        mask: UntrackedFloats,
        N: Int,
    ):
        """Allocate the intermediate results in a workspace of `size(...)` floats."""
        var M = scores.M
        var parts = partition.count()
        self.partition = partition
        self.head = head
        self.table = table
        self.x = Matrix.padded(workspace.take(Matrix.padded_size(M, head.K)), head.K)
        self.scores = scores
        self.mask = mask
        self.N = N
        self.statistics = workspace.take(align_up(M, LANES) * STATISTICS * partition.length)
        self.ahead = workspace.take(parts * M * 2).unsafe_bitcast[Scalar[I64]]()
        self.best_ids = workspace.take(parts * M * scores.top * 2).unsafe_bitcast[Scalar[I64]]()
        self.best_logits = workspace.take(parts * M * scores.top)

    @always_inline
    def statistic(self, chunk: Int, index: Int) -> UntrackedFloats:
        """Return a statistic of a chunk: [M]."""
        return self.statistics.unsafe_offset((chunk * STATISTICS + index) * align_up(self.scores.M, LANES))

    def score_targets(self, item: Int):
        """Compute the logits of the targets of ROWS_PER_ITEM tokens; infinity where there is no target."""
        var K = self.head.K
        var workspace = Workspace(K)
        var row = workspace.take(K)
        for m in range(item * ROWS_PER_ITEM, min((item + 1) * ROWS_PER_ITEM, self.scores.M)):
            var target = Int(self.scores.targets.unsafe_load(m))
            debug_assert(target < self.N, "target ", target, " is not below ", self.N)
            if target < 0:
                self.head.y.unsafe_store(m, INFINITY)
            else:
                var weight = self.rows(target, 1, row)
                Head(self.head.x.unsafe_offset(m * K), weight, self.head.y.unsafe_offset(m), K, K, 1).tile[
                    1, 1, False
                ]()
        workspace.free()

    @always_inline
    def rows(self, first: Int, count: Int, decoded: UntrackedFloats) -> UntrackedFloats:
        """Return rows of the weight as float32, [count, K]: in place, or decoded."""
        if self.table.type == TYPE_F32:
            return self.table.row(first).floats()
        self.table.row(first).decode_rows(count, decoded, self.table.K)
        return decoded

    def reduce_part(self, part: Int):
        """Compute the statistics, ranks and most likely ids of all tokens over one part of the vocabulary."""
        var M = self.scores.M
        var first = self.partition.start(part)
        var last = self.partition.start(part + 1)
        for i in range(part * M, (part + 1) * M):
            self.ahead.unsafe_store(i, 0)
        for i in range(part * M * self.scores.top, (part + 1) * M * self.scores.top):
            self.best_logits.unsafe_store(i, -INFINITY)
            self.best_ids.unsafe_store(i, -1)
        var K = self.table.K
        var decoded_size = 0 if self.table.type == TYPE_F32 else SCORE_CHUNK * K
        var workspace = Workspace(HEAD_TOKENS * SCORE_CHUNK + decoded_size)
        var logits = workspace.take(HEAD_TOKENS * SCORE_CHUNK)  # [HEAD_TOKENS, SCORE_CHUNK]
        var decoded = workspace.take(decoded_size)  # [SCORE_CHUNK, K]
        for chunk in range(first, last):
            var n = chunk * SCORE_CHUNK
            var weight = self.rows(n, min(SCORE_CHUNK, self.N - n), decoded)
            for m in range(0, M, HEAD_TOKENS):
                self.reduce_block(part, chunk, m, weight, logits)
        workspace.free()

    @always_inline
    def reduce_block(self, part: Int, chunk: Int, m: Int, weight: UntrackedFloats, logits: UntrackedFloats):
        """Compute the logits of HEAD_TOKENS tokens and a chunk, whose rows are `weight`, and reduce them."""
        var n = chunk * SCORE_CHUNK
        var count = min(SCORE_CHUNK, self.N - n)
        var tokens = min(HEAD_TOKENS, self.scores.M - m)
        Head(self.x.ptr(m, 0), weight, logits, self.head.K, self.x.row_stride, SCORE_CHUNK).block(tokens, count)
        for t in range(tokens):
            var row = logits.unsafe_offset(t * SCORE_CHUNK)
            if count == SCORE_CHUNK:
                self.reduce_row[True](part, chunk, m + t, row, count)
            else:
                for i in range(count, SCORE_CHUNK):
                    row.unsafe_store(i, -INFINITY)
                self.reduce_row[False](part, chunk, m + t, row, count)

    @always_inline
    def reduce_row[full: Bool](self, part: Int, chunk: Int, m: Int, logits: UntrackedFloats, count: Int):
        """Reduce the logits of one token and a chunk, [SCORE_CHUNK]; unless `full`, those after `count` are -inf."""
        var largest = Vector(-INFINITY)
        comptime for v in range(SCORE_CHUNK // W):
            largest = max(largest, logits.unsafe_load[width=W](v * W))
        var maximum = largest.reduce_max()
        var target = Int(self.scores.targets.unsafe_load(m)) - chunk * SCORE_CHUNK  # relative to the chunk
        var target_logit = Vector(self.head.y.unsafe_load(m))
        var row = part * self.scores.M + m
        var threshold = self.best_logits.unsafe_load((row + 1) * self.scores.top - 1)
        var sum = Vector(0)
        var weighted = Vector(0)
        var masked = Vector(0)
        var ahead = Vector(0)
        comptime for v in range(SCORE_CHUNK // W):
            var logit = logits.unsafe_load[width=W](v * W)
            var shifted = logit - maximum
            var e = exp(shifted)
            comptime if not full:
                var is_id = logit.gt(-INFINITY)
                shifted = is_id.select(shifted, Vector(0))
                e = is_id.select(e, Vector(0))
            sum += e
            weighted = e.fma(shifted, weighted)
            var of_mask = self.mask.unsafe_offset(chunk * SCORE_CHUNK + v * W)
            masked = e.fma(of_mask.unsafe_load[width=W](0) if full else load_masked(of_mask, count - v * W), masked)
            # Of equal logits, the lower id comes first.
            var is_before = iota[I32, W](Scalar[I32](v * W)).lt(Scalar[I32](target))
            var is_ahead = logit.gt(target_logit) | (logit.eq(target_logit) & is_before)
            ahead += is_ahead.select(Vector(1), Vector(0))
            if logit.gt(threshold).reduce_or():
                threshold = self.insert(row, logit, chunk * SCORE_CHUNK + v * W)
        self.statistic(chunk, 0).unsafe_store(m, maximum)
        self.statistic(chunk, 1).unsafe_store(m, sum.reduce_add())
        self.statistic(chunk, 2).unsafe_store(m, weighted.reduce_add())
        self.statistic(chunk, 3).unsafe_store(m, masked.reduce_add())
        self.ahead.unsafe_store(row, self.ahead.unsafe_load(row) + Scalar[I64](Int(ahead.reduce_add())))

    def insert(self, row: Int, logits: Vector, first: Int) -> Scalar[F32]:
        """Insert the logits of the ids from `first` on into the best of a row; return the worst that remains."""
        var best = self.best_logits.unsafe_offset(row * self.scores.top)
        var ids = self.best_ids.unsafe_offset(row * self.scores.top)
        var last = self.scores.top - 1
        for lane in range(W):
            var logit = logits[lane]
            if logit > best.unsafe_load(last):
                var i = last
                while i > 0 and best.unsafe_load(i - 1) < logit:
                    best.unsafe_store(i, best.unsafe_load(i - 1))
                    ids.unsafe_store(i, ids.unsafe_load(i - 1))
                    i -= 1
                best.unsafe_store(i, logit)
                ids.unsafe_store(i, Scalar[I64](first + lane))
        return best.unsafe_load(last)

    def combine(self, item: Int):
        """Combine the chunks of LANES tokens and store their results."""
        var first = item * LANES
        var largest = SIMD[F32, LANES](-INFINITY)
        for chunk in range(self.partition.length):
            largest = max(largest, self.statistic(chunk, 0).unsafe_load[width=LANES](first))
        var maximum = largest.cast[F64]()
        var total = Lanes(0)
        var weighted = Lanes(0)
        var masked = Lanes(0)
        for chunk in range(self.partition.length):
            var shift = self.statistic(chunk, 0).unsafe_load[width=LANES](first).cast[F64]() - maximum
            var scale = exp(shift)
            var sum = self.statistic(chunk, 1).unsafe_load[width=LANES](first).cast[F64]()
            var own = self.statistic(chunk, 2).unsafe_load[width=LANES](first).cast[F64]()
            total += scale * sum
            weighted += scale * (own + sum * shift)
            masked += scale * self.statistic(chunk, 3).unsafe_load[width=LANES](first).cast[F64]()
        var log_total = log(total)
        var logprobs = self.head.y.unsafe_load[width=LANES](first).cast[F64]() - maximum - log_total
        var entropies = log_total - weighted / total
        var mask_logprobs = log(masked) - log_total
        var M = self.scores.M
        for lane in range(min(LANES, M - first)):
            var m = first + lane
            var has_target = self.scores.targets.unsafe_load(m) >= 0
            self.scores.sums.unsafe_store(m, logprobs[lane] if has_target else nan[F64]())
            self.scores.sums.unsafe_store(M + m, entropies[lane])
            self.scores.sums.unsafe_store(2 * M + m, mask_logprobs[lane])
            self.store_rank(m, has_target)
            self.store_best(m, maximum[lane] + log_total[lane])

    @always_inline
    def store_rank(self, m: Int, has_target: Bool):
        """Store the rank of a token: the number of ids that are more likely, over all parts, plus one."""
        var rank = Scalar[I64](1)
        for part in range(self.partition.count()):
            rank += self.ahead.unsafe_load(part * self.scores.M + m)
        self.scores.ranks.unsafe_store(m, rank if has_target else 0)

    @always_inline
    def store_best(self, m: Int, log_total: Scalar[F64]):
        """Merge the most likely ids of all parts; `log_total` is the log of the sum of exp(logit)."""
        var top = self.scores.top
        var ids = self.scores.top_ids.unsafe_offset(m * top)
        var logprobs = self.scores.top_logprobs.unsafe_offset(m * top)
        var count = 0
        for part in range(self.partition.count()):  # in the order of the ids
            var start = (part * self.scores.M + m) * top
            for index in range(start, start + top):
                var id = self.best_ids.unsafe_load(index)
                if id < 0:
                    break
                var logprob = self.best_logits.unsafe_load(index).cast[F64]() - log_total
                if count == top and logprob <= logprobs.unsafe_load(top - 1):
                    break
                var i = min(count, top - 1)
                while i > 0 and logprobs.unsafe_load(i - 1) < logprob:
                    logprobs.unsafe_store(i, logprobs.unsafe_load(i - 1))
                    ids.unsafe_store(i, ids.unsafe_load(i - 1))
                    i -= 1
                logprobs.unsafe_store(i, logprob)
                ids.unsafe_store(i, id)
                count = min(count + 1, top)
