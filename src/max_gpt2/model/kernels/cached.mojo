"""The tokens that attend, and where the keys and values of those before them are: in slots, or in pages."""

from extensibility import InputTensor
from extensibility.managed_tensor_slice import _MutableInputTensor as MutableInputTensor

from .attention_head import Head
from .floats import HeldFloats, held

# The graph keeps what these point to, as it does `HeldFloats`.
comptime Numbers = Pointer[mut=True, Scalar[DType.int64], MutUntrackedOrigin]
comptime Int64s = InputTensor[dtype=DType.int64, rank=1, ...]


@fieldwise_init
struct New(TrivialRegisterPassable):
    """The new tokens of some texts: text i has [offsets[i], offsets[i + 1]), and `lengths[i]` others before them."""

    var offsets: Numbers
    var lengths: Numbers
    var texts: Int

    @always_inline
    def start(self, text: Int) -> Int:
        """Where the new tokens of a text begin."""
        return Int(self.offsets.unsafe_load(text))

    @always_inline
    def count(self, text: Int) -> Int:
        """How many new tokens a text has."""
        return self.start(text + 1) - self.start(text)

    @always_inline
    def length(self, text: Int) -> Int:
        """How many tokens of a text are in the cache."""
        return Int(self.lengths.unsafe_load(text))


@fieldwise_init
struct Cache(TrivialRegisterPassable):
    """The cache of one layer. Text i has the pages `table[i, :]`, of `width`; `head` says how a page is laid out."""

    var head: Head
    var keys: HeldFloats
    var values: HeldFloats
    var table: Numbers
    var width: Int

    @always_inline
    def of_head(self, h: Int) -> Self:
        """Where the keys and values of one head are."""
        var head = self.head
        head.index = h
        var first = h * head.dim * head.room
        return Self(head, self.keys.unsafe_offset(first), self.values.unsafe_offset(first), self.table, self.width)

    @always_inline
    def pages(self, text: Int) -> Numbers:
        """The pages of a text."""
        return self.table.unsafe_offset(text * self.width)


@always_inline
def new_tokens(offsets: Int64s, lengths: Int64s) -> New:
    """What the graph says of the new tokens."""
    return New(
        offsets.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin](),
        lengths.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin](),
        lengths.dim_size(0),
    )


@always_inline
def slots_of_layer(
    keys: MutableInputTensor[dtype=DType.float32, rank=5, ...],
    values: MutableInputTensor[dtype=DType.float32, rank=5, ...],
    slots: Int64s,
    layer: Int,
) -> Cache:
    """A slot is one page with room for a whole text: see `Attention`."""
    var slot = keys.dim_size(2) * keys.dim_size(3) * keys.dim_size(4)
    var first = layer * keys.dim_size(1) * slot
    var head = Head(0, keys.dim_size(2), keys.dim_size(3), keys.dim_size(4), slot)
    return Cache(
        head,
        held(keys.unsafe_ptr().unsafe_offset(first)),
        held(values.unsafe_ptr().unsafe_offset(first)),
        slots.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin](),
        1,
    )


@always_inline
def pages_of_layer(
    blocks: MutableInputTensor[dtype=DType.float32, rank=6, ...],
    table: InputTensor[dtype=DType.int64, rank=2, ...],
    layer: Int,
) -> Cache:
    """Pages of some tokens, which a text takes as it grows: see `PagedAttention`."""
    var n_layer = blocks.dim_size(2)
    var part = blocks.dim_size(3) * blocks.dim_size(4) * blocks.dim_size(5)
    var keys = held(blocks.unsafe_ptr().unsafe_offset(layer * part))
    var head = Head(0, blocks.dim_size(4), blocks.dim_size(5), blocks.dim_size(3), 2 * n_layer * part)
    var pages = table.unsafe_ptr().unsafe_origin_cast[MutUntrackedOrigin]()
    return Cache(head, keys, keys.unsafe_offset(n_layer * part), pages, table.dim_size(1))
