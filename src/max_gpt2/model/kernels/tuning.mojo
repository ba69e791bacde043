"""All constants of the kernels: block sizes, thresholds and prefetch distances, each with its reason.

MC, KC, NC, MR and NR have the meaning of Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix
Multiplication", and of BLIS. `gemm.mojo` and `gemv.mojo` have a diagram each.

**Which constants may change.** KC and SCORE_CHUNK are part of the numerical contract: an element of a product is the
bias plus one partial sum for every KC rows of the weight, and a log probability has one for every SCORE_CHUNK ids, so
other values give results that differ in the last bits. The vector width W is that of the processor; layer norm,
softmax, the logits and their exponentials are summed in W lanes. Every other constant in this file changes the speed
only, which `tests/model/test_kernels.py` verifies by compiling the kernels with other values.
Constraints between constants are stated beside them and asserted at compile time.

**How they were measured.** Old and new kernels ran in alternation within the same minutes, on random checkpoints of the
published sizes, and medians of 7 to 60 repetitions were compared. Where a comment gives no figure, none was recorded:
the value follows from the size of a cache or from the number of registers. `docs/design/kernels.md` describes how to
retune.
"""

from .types import W

#: AVX-512 has 32 vector registers; AVX2 and NEON get the smaller tiles, which fit the 16 of AVX2.
comptime LARGE_REGISTER_FILE = W >= 16

# Memory layout

#: Float32 elements of a 64-byte cache line.
comptime CACHE_LINE = 16

# GEMM: more than GEMV_MAX_ROWS rows of x

#: Rows of the weight in one partial sum. PART OF THE CONTRACT: it defines the order of summation, for GEMV too. A
#: micro-panel [KC, NR] of the weight takes 32 KiB with AVX-512 and 16 KiB with AVX2.
comptime KC = 256
#: Rows of x multiplied with one micro-panel. A block [MC, KC] of x takes 281 KiB with its padding, which fits an L2
#: cache of 512 KiB. On Zen 3 with AVX2, 264 instead of 132 rows took a prompt of 400 tokens from 555 to 525 ms.
comptime MC = 264
#: Rows of the register tile. MR * NR accumulators take 24 of 32 registers with AVX-512 and 12 of 16 with AVX2.
comptime MR = 12 if LARGE_REGISTER_FILE else 6
#: Vectors of a row of the register tile.
comptime NR_VECTORS = 2
#: Columns of the register tile and of a packed micro-panel. Must divide KC, so that no tile crosses two column blocks.
comptime NR = NR_VECTORS * W
#: Heights of the last tile: one, two or three times this many rows. The remainder is padded with zeros.
comptime MR_STEP = max(1, MR // 3)
#: Rows ahead at which the first tile of a panel prefetches the weight again. The first panel of a work item was not
#: prefetched before, and lines of a weight with a row length that is a power of two may have been evicted.
comptime PACK_PREFETCH_ROWS = 40

# GEMV: at most GEMV_MAX_ROWS rows of x

#: Largest number of rows of x for which GEMV is faster than GEMM. On Zen 3, reading the weight in contiguous ranges
#: took a token of one sequence from 28.9 to 25.9 ms and of eight from 44.3 to 42.2 ms; 28 sequences lost 2 to 4 %.
comptime GEMV_MAX_ROWS = 28
#: Rows of the weight kept in registers: GEMV_KR * NR_VECTORS vectors. A power of two, since a vector of x has as many
#: elements.
comptime GEMV_KR = 8 if LARGE_REGISTER_FILE else 4
#: Up to this many rows of x, GEMV does not prefetch: it is bound by the weight, which arrives faster without. On
#: Zen 5, one or two rows took 0.88 to 0.94 of the time in six comparisons, four and eight rows 1.04 and 1.09. With the
#: vectors and registers of AVX2 one row took 1.16, so there all rows prefetch.
comptime GEMV_NO_PREFETCH_ROWS = 2 if LARGE_REGISTER_FILE else 0
#: Accumulators of one pass over a KC block: 24 KiB, three quarters of an L1 cache of 32 KiB.
comptime GEMV_ACCUMULATORS = 6144
# Quantised weights, one row of x

#: Bytes ahead at which a panel is prefetched.
comptime PANEL_PREFETCH_BYTES = 2048

# Attention

#: Queries computed together, and vectors of keys or values combined with them: 24 and 8 accumulators.
comptime ATTENTION_QUERIES = 6 if LARGE_REGISTER_FILE else 2
comptime ATTENTION_VECTORS = 4
#: Keys of a block of the KV cache, which one query reads at once. A divisor of every page size and a multiple of
#: ATTENTION_VECTORS * W. `max_gpt2.model.kv_cache` has the same number.
comptime KEY_BLOCK = 64
#: Tokens of one sequence in one work item, for one head. A multiple of ATTENTION_QUERIES wastes no query.
comptime ATTENTION_TOKENS = 48

# Logits

#: Tokens that share one read of the embedding's rows: their accumulators stay in registers.
comptime LOGITS_TOKENS = 8 if LARGE_REGISTER_FILE else 4
#: Accumulators of a tile, in vectors, out of 32 and 16 registers.
comptime LOGITS_ACCUMULATORS = 24 if LARGE_REGISTER_FILE else 8
#: Rows of the embedding that stay in a core's cache while all tokens use them: 192 KiB for n_embd = 768.
comptime LOGITS_ROWS = 64

#: Vectors of a row in one iteration of a dot product. On Zen 3 a loop over one vector ran at two thirds of the
#: multiply-adds per second, one over two at five sixths.
comptime LOGITS_UNROLL = 2

#: Rows of an embedding that are decoded together for one token.
comptime DECODED_ROWS = 4

# Token scores

#: Ids whose logits are summed in float32 before the sums are added up in float64. PART OF THE CONTRACT. The embedding's
#: rows of a chunk stay in a core's L2 cache while all tokens use them: 192 KiB for n_embd = 768.
comptime SCORE_CHUNK = 64
#: Register tile of the fused head, tokens and rows of the embedding: 12 of 16 and 24 of 32 registers for the sums.
comptime HEAD_T = 4 if LARGE_REGISTER_FILE else 3
comptime HEAD_R = 6 if LARGE_REGISTER_FILE else 4
#: Tokens of a block, which stay in an L2 cache beside LOGITS_ROWS rows of the embedding: 54 KiB for n_embd = 768.
comptime HEAD_TOKENS = 24 if LARGE_REGISTER_FILE else 18

# Threads

#: Rows of a matrix in one work item of layer norm and of gather.
comptime ROWS_PER_ITEM = 16
#: Polls of a counter before a waiting thread yields its core. Polling this often takes longer than any phase on a free
#: core, so a thread yields only if another one was descheduled.
comptime SPIN_LIMIT = 20000
