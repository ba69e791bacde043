"""The key-value cache of one layer, contiguous or paged, and the batch of sequences that uses it.

Both forms are pages of `page_size` tokens, found through a lookup table, so one attention kernel serves both:

contiguous   each sequence has one slot, a page of the whole capacity; its lookup table is [batch, 1], the slots
             keys   [n_layer, slots, n_head, capacity / KEY_BLOCK, head_dim, KEY_BLOCK]
             values [n_layer, slots, n_head, capacity, head_dim]

paged        a sequence takes pages as it grows; its lookup table is [batch, pages_per_sequence]
             blocks [pages, 2, n_layer, page_size, n_head, head_dim] by shape, which is that of MAX's paged cache

In both, the values of a page are [n_head, page_size, head_dim], and the keys are blocks of KEY_BLOCK tokens, each
transposed so that a vector holds the same element of W keys: [n_head, page_size / KEY_BLOCK, head_dim, KEY_BLOCK]. So
attention reads both from memory in order. Nothing but these kernels reads the paged blocks, so their content need not
have the order that their shape suggests.
"""

from .matrix import Matrix, transpose_square
from .tuning import KEY_BLOCK
from .types import FloatBuffer5D, FloatBuffer6D, IntTensor1D, IntTensor2D, UntrackedFloats, UntrackedInts, W
from .types import load_masked, store_masked, untracked, untracked_ints


struct RaggedBatch(TrivialRegisterPassable):
    """The new tokens of several sequences, concatenated without padding.

    Sequence i has the tokens [row_offsets[i], row_offsets[i + 1]), after `cache_lengths[i]` tokens in the cache.
    """

    var row_offsets: UntrackedInts  # [size + 1]
    var cache_lengths: UntrackedInts  # [size]
    var size: Int

    @always_inline
    def __init__(out self, row_offsets: IntTensor1D, cache_lengths: IntTensor1D, tokens: Int):
        """Wrap the operands of the graph, and check that they describe `tokens` tokens."""
        self.row_offsets = untracked_ints(row_offsets)
        self.cache_lengths = untracked_ints(cache_lengths)
        self.size = cache_lengths.dim_size(0)
        debug_assert[assert_mode="safe"](row_offsets.dim_size(0) == self.size + 1, "row_offsets is not [batch + 1]")
        debug_assert[assert_mode="safe"](self.start(self.size) == tokens, "row_offsets does not end with the tokens")

    @always_inline
    def start(self, sequence: Int) -> Int:
        """Return the row of the first new token of a sequence."""
        return Int(self.row_offsets.unsafe_load(sequence))

    @always_inline
    def count(self, sequence: Int) -> Int:
        """Return the number of new tokens of a sequence."""
        return self.start(sequence + 1) - self.start(sequence)

    @always_inline
    def cached(self, sequence: Int) -> Int:
        """Return the number of tokens of a sequence that are already in the cache."""
        return Int(self.cache_lengths.unsafe_load(sequence))

    def longest(self) -> Int:
        """Return the largest number of new tokens of a sequence."""
        var longest = 0
        for sequence in range(self.size):
            longest = max(longest, self.count(sequence))
        return longest


@fieldwise_init
struct HeadCache(TrivialRegisterPassable):
    """The cache of one head of one sequence, with the columns of this head in a row of queries, keys and values."""

    var keys: UntrackedFloats  # pages [page_size / KEY_BLOCK, head_dim, KEY_BLOCK], page_stride apart
    var values: UntrackedFloats  # pages [page_size, head_dim], page_stride apart
    var pages: UntrackedInts  # [pages_per_sequence]
    var page_size: Int
    var page_stride: Int
    var head: Int
    var n_head: Int
    var head_dim: Int

    @always_inline
    def page(self, token: Int) -> Int:
        """Return the offset of the page of a token."""
        return Int(self.pages.unsafe_load(token // self.page_size)) * self.page_stride

    @always_inline
    def key(self, token: Int) -> Int:
        """Return the offset of element 0 of a token's key; the next element is KEY_BLOCK further."""
        var block = token % self.page_size // KEY_BLOCK
        return self.page(token) + block * KEY_BLOCK * self.head_dim + token % KEY_BLOCK

    @always_inline
    def value(self, token: Int) -> Int:
        """Return the offset of a token's value, [head_dim]."""
        return self.page(token) + token % self.page_size * self.head_dim

    @always_inline
    def query_column(self) -> Int:
        """Return the column of this head's query in a row of [query, key, value], and of its result."""
        return self.head * self.head_dim

    @always_inline
    def key_column(self) -> Int:
        """Return the column of this head's key."""
        return (self.n_head + self.head) * self.head_dim

    @always_inline
    def value_column(self) -> Int:
        """Return the column of this head's value."""
        return (2 * self.n_head + self.head) * self.head_dim


@fieldwise_init
struct LayerCache(TrivialRegisterPassable):
    """The cache of one layer for all sequences of a batch."""

    # Keys and values have the order of the pages above, page_stride apart; layers are layer_stride apart.
    var keys: UntrackedFloats
    var values: UntrackedFloats
    var n_layer: Int  # from this layer on
    var layer_stride: Int
    var lookup_table: UntrackedInts  # [batch, pages_per_sequence]
    var pages_per_sequence: Int
    var page_size: Int
    var page_stride: Int
    var n_head: Int
    var head_dim: Int

    @staticmethod
    @always_inline
    def contiguous(keys: FloatBuffer6D, values: FloatBuffer5D, slots: IntTensor1D) -> Self:
        """Return the first layer of a contiguous cache; its shapes are at the top of this file."""
        var n_head = keys.dim_size(2)
        var head_dim = keys.dim_size(4)
        var capacity = values.dim_size(3)
        comptime for axis in range(3):
            debug_assert[assert_mode="safe"](keys.dim_size(axis) == values.dim_size(axis), "keys and values differ")
        debug_assert[assert_mode="safe"](keys.dim_size(5) == KEY_BLOCK, "keys are not in blocks of ", KEY_BLOCK)
        debug_assert[assert_mode="safe"](keys.dim_size(3) * KEY_BLOCK == capacity, "keys and values differ in capacity")
        debug_assert[assert_mode="safe"](values.dim_size(4) == head_dim, "values have another head_dim than keys")
        var slot = n_head * head_dim * capacity
        return Self(
            untracked(keys.unsafe_ptr()),
            untracked(values.unsafe_ptr()),
            keys.dim_size(0),
            keys.dim_size(1) * slot,
            untracked_ints(slots),
            1,
            capacity,
            slot,
            n_head,
            head_dim,
        )

    @staticmethod
    @always_inline
    def paged(blocks: FloatBuffer6D, lookup_table: IntTensor2D) -> Self:
        """Return the first layer of a paged cache; its shapes are at the top of this file."""
        var n_layer = blocks.dim_size(2)
        var page_size = blocks.dim_size(3)
        var n_head = blocks.dim_size(4)
        var head_dim = blocks.dim_size(5)
        debug_assert[assert_mode="safe"](blocks.dim_size(1) == 2, "blocks do not have keys and values")
        var page = page_size * n_head * head_dim  # floats of the keys, or of the values, of a layer
        var keys = untracked(blocks.unsafe_ptr())
        return Self(
            keys,
            keys.unsafe_offset(n_layer * page),
            n_layer,
            page,
            untracked_ints(lookup_table),
            lookup_table.dim_size(1),
            page_size,
            2 * n_layer * page,
            n_head,
            head_dim,
        )

    @always_inline
    def layer(self, index: Int) -> Self:
        """Return the cache of the layer `index` layers further."""
        debug_assert[assert_mode="safe"](0 <= index < self.n_layer, "layer is not in [0, n_layer)")
        var cache = self
        cache.keys = self.keys.unsafe_offset(index * self.layer_stride)
        cache.values = self.values.unsafe_offset(index * self.layer_stride)
        cache.n_layer = self.n_layer - index
        return cache

    def check(self, batch: RaggedBatch, n_embd: Int):
        """Check that the cache has the capacity for a batch, and the heads for `n_embd`."""
        debug_assert[assert_mode="safe"](self.page_size % KEY_BLOCK == 0, "page size is not a multiple of ", KEY_BLOCK)
        debug_assert[assert_mode="safe"](self.n_head * self.head_dim == n_embd, "n_head * head_dim is not n_embd")
        var capacity = self.pages_per_sequence * self.page_size
        for i in range(batch.size):
            var tokens = batch.cached(i) + batch.count(i)
            debug_assert[assert_mode="safe"](tokens <= capacity, "sequence ", i, " is longer than its cache")

    @always_inline
    def head(self, sequence: Int, head: Int) -> HeadCache:
        """Return the cache of one head of one sequence."""
        var first = head * self.head_dim * self.page_size
        return HeadCache(
            self.keys.unsafe_offset(first),
            self.values.unsafe_offset(first),
            self.lookup_table.unsafe_offset(sequence * self.pages_per_sequence),
            self.page_size,
            self.page_stride,
            head,
            self.n_head,
            self.head_dim,
        )


def append(cache: HeadCache, qkv: Matrix, cached: Int, first: Int, last: Int):
    """Store the keys and values of the new tokens [first, last) of a sequence after its `cached` tokens.

    qkv is [tokens, 3 * n_embd] from the sequence's first new token on; its rows are contiguous.
    """
    var dim = cache.head_dim
    for s in range(first, last):
        var value = qkv.ptr(s, cache.value_column())
        var target = cache.values.unsafe_offset(cache.value(cached + s))
        for d in range(0, dim, W):
            store_masked(target.unsafe_offset(d), load_masked(value.unsafe_offset(d), dim - d), dim - d)
    var s = first
    while s < last:
        var key = qkv.ptr(s, cache.key_column())
        var target = cache.keys.unsafe_offset(cache.key(cached + s))
        # W keys at a time, if all of them are new and in the same block.
        if s + W <= last and (cached + s) % KEY_BLOCK + W <= KEY_BLOCK and dim % W == 0:
            for d in range(0, dim, W):
                transpose_square(key.unsafe_offset(d), qkv.row_stride, target.unsafe_offset(d * KEY_BLOCK), KEY_BLOCK)
            s += W
        else:
            for d in range(dim):
                target.unsafe_store(d * KEY_BLOCK, key.unsafe_load(d))
            s += 1
