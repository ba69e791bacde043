"""The types of weights, and how a vector of float32 is decoded from them.

A product decodes weights in registers, right before it multiplies them, and then does the same multiply-adds in the
same order as with float32 weights. Decoding gives exactly the values that the `gguf` package gives, so logits are
bitwise identical to those of the dequantised model.

The linear weight [K, N] of a quantised type is stored in *panels* of PANEL columns, the last one padded with zeros. Its
rows are cut into blocks of KC = 256, which may end with a shorter one. For each block, and for each panel of it:

    d    float16 [PANEL]              Q4_K, Q5_K and Q6_K only: the scales of the block
    dmin float16 [PANEL]              Q4_K and Q5_K only
    for each group of 32 rows         Q6_K: 16 rows
      scales                          d float16 [PANEL]; Q4_1 and Q5_1: d and m; Q4_K and Q5_K: scale and min, uint8
                                      [PANEL] each; Q6_K: scale int8 [PANEL]
      quants                          Q8_0: int8 [32, PANEL]
                                      others: uint32 [rows / 8, PANEL], 4 bits of 8 rows each, the first row lowest;
                                      5 bits: then uint32 [PANEL], a bit of each row; 6 bits: then uint32 [PANEL], two
                                      bits of each row

Q4_0, Q5_0 and Q6_K are stored in two's complement. An embedding [rows, K] is stored as in a GGUF file: for each row,
the blocks of 32 or 256 elements one after the other. `types.py` of `max_gpt2.weights` has the names of the types, and
`panels.py` makes panels.

The value of a quant q is d * q, d * q + m, (d * scale) * q - dmin * min, or (d * scale) * q. A product of a float16
with a quant, and with a scale, has at most 24 bits, so it is exact. A multiply-add of it rounds the sum only, as a
multiplication and an addition would.
"""

from std.math import iota

from .tuning import KC, NR, NR_VECTORS
from .types import F32, MutFloats, U8, UntrackedBytes, UntrackedFloats, W

comptime F16 = DType.float16
comptime BF16 = DType.bfloat16
comptime I8 = DType.int8
comptime I32 = DType.int32
comptime U32 = DType.uint32

#: The numbers of the types: their order in `max_gpt2.weights.TYPES`.
comptime TYPE_F32 = 0
comptime TYPE_F16 = 1
comptime TYPE_BF16 = 2
comptime TYPE_Q8_0 = 3
comptime TYPE_Q4_0 = 4
comptime TYPE_Q4_1 = 5
comptime TYPE_Q5_0 = 6
comptime TYPE_Q5_1 = 7
comptime TYPE_Q4_K = 8
comptime TYPE_Q5_K = 9
comptime TYPE_Q6_K = 10
comptime TYPES = 11

#: Columns of a panel. Every NR divides it.
comptime PANEL = 32


def is_quantised(type: Int) -> Bool:
    """Return True for the types whose values share scales."""
    return type >= TYPE_Q8_0


def has_super_blocks(type: Int) -> Bool:
    """Return True for the types whose scales are themselves scaled, for each 256 elements of a row."""
    return type >= TYPE_Q4_K


def has_min(type: Int) -> Bool:
    """Return True for the types that add a value to the scaled quants."""
    return type == TYPE_Q4_1 or type == TYPE_Q5_1 or type == TYPE_Q4_K or type == TYPE_Q5_K


def is_signed(type: Int) -> Bool:
    """Return True for the types whose quants are below zero as well."""
    return not has_min(type)


def quant_bits(type: Int) -> Int:
    """Return the number of bits of a quant."""
    if type == TYPE_Q8_0:
        return 8
    if type == TYPE_Q6_K:
        return 6
    return 5 if type == TYPE_Q5_0 or type == TYPE_Q5_1 or type == TYPE_Q5_K else 4


def group_rows(type: Int) -> Int:
    """Return the number of elements that share a scale."""
    return 16 if type == TYPE_Q6_K else 32


def element_type(type: Int) -> DType:
    """Return the dtype of a type that is not quantised."""
    return F16 if type == TYPE_F16 else BF16 if type == TYPE_BF16 else F32


def header_bytes(type: Int) -> Int:
    """Return the size of the header of a panel's block."""
    return 2 * PANEL * (1 + Int(has_min(type))) if has_super_blocks(type) else 0


def scale_bytes(type: Int) -> Int:
    """Return the size of the scales of a group in a panel."""
    return PANEL * (1 + Int(has_min(type))) * (1 if has_super_blocks(type) else 2)


def group_bytes(type: Int) -> Int:
    """Return the size of a group in a panel."""
    return scale_bytes(type) + group_rows(type) * PANEL * quant_bits(type) // 8


def panel_bytes(type: Int, rows: Int) -> Int:
    """Return the size of a block of `rows` rows of a panel."""
    return header_bytes(type) + rows // group_rows(type) * group_bytes(type)


def row_bytes(type: Int, columns: Int) -> Int:
    """Return the size of a row of an embedding."""
    if not is_quantised(type):
        return columns * (4 if type == TYPE_F32 else 2)
    var group = group_rows(type)
    var scales = 2 + 2 * Int(has_min(type))  # legacy types
    if has_super_blocks(type):  # scales and mins of 8 groups take 12 bytes, those of 16 groups 16
        return columns // 256 * ((2 + 16 if type == TYPE_Q6_K else 4 + 12) + 32 * quant_bits(type))
    return columns // group * (scales + group * quant_bits(type) // 8)


def row_block(type: Int) -> Int:
    """Return the number of elements of a block in a row of an embedding."""
    return 256 if has_super_blocks(type) else 32


@always_inline
def load_as[dtype: DType, width: Int](data: UntrackedBytes, index: Int) -> SIMD[F32, width]:
    """Load `width` elements of a type as float32, from element `index` on."""
    return data.unsafe_bitcast[Scalar[dtype]]().unsafe_load[width=width](index).cast[F32]()


@fieldwise_init
struct Scales[width: Int](TrivialRegisterPassable):
    """The scales of some quants, and what is added to them if their type has a minimum."""

    var scale: SIMD[F32, Self.width]
    var added: SIMD[F32, Self.width]

    @always_inline
    def value[type: Int](self, quants: SIMD[I32, Self.width]) -> SIMD[F32, Self.width]:
        """Return the values of quants."""
        comptime if has_min(type):
            return quants.cast[F32]().fma(self.scale, self.added)
        else:
            return quants.cast[F32]() * self.scale


@fieldwise_init
struct PanelBlock[type: Int](TrivialRegisterPassable):
    """A block of at most KC rows of a panel, from one of its columns on."""

    var data: UntrackedBytes
    var column: Int

    @always_inline
    def scales[width: Int](self, group: Int, v: Int) -> Scales[width]:
        """Return the scales of a group of rows for `width` columns, from column `v` on."""
        var column = self.column + v
        var at = self.data.unsafe_offset(self.group(group))
        comptime if not has_super_blocks(Self.type):
            var d = load_as[F16, width](at, column)
            comptime if has_min(Self.type):
                return {d, load_as[F16, width](at, PANEL + column)}
            return {d, 0}
        var d = load_as[F16, width](self.data, column)
        comptime if not has_min(Self.type):
            return {d * load_as[I8, width](at, column), 0}
        var dmin = load_as[F16, width](self.data, PANEL + column)
        return {d * load_as[U8, width](at, column), -(dmin * load_as[U8, width](at, PANEL + column))}

    @always_inline
    def group(self, group: Int) -> Int:
        """Return the offset of a group of rows."""
        return comptime (header_bytes(Self.type)) + group * comptime (group_bytes(Self.type))

    @always_inline
    def words[width: Int](self, group: Int, word: Int, v: Int) -> SIMD[U32, width]:
        """Return a word of each of `width` columns, from column `v` on: 8 rows of 4 bits, or their upper bits."""
        var at = self.data.unsafe_offset(self.group(group) + comptime (scale_bytes(Self.type)))
        return at.unsafe_bitcast[Scalar[U32]]().unsafe_load[width=width](word * PANEL + self.column + v)

    @always_inline
    def bytes[width: Int](self, group: Int, row: Int, v: Int) -> SIMD[I32, width]:
        """Return the quants of a row of a group, 8 bits each, for `width` columns from column `v` on."""
        var at = self.data.unsafe_offset(self.group(group) + comptime (scale_bytes(Self.type)))
        return at.unsafe_bitcast[Scalar[I8]]().unsafe_load[width=width](row * PANEL + self.column + v).cast[I32]()


@always_inline
def unpack[type: Int, row: Int, width: Int](low: SIMD[U32, width], high: SIMD[U32, width]) -> SIMD[I32, width]:
    """Return the quants of row `row` of 8: 4 bits of `low`, and the upper bits, which start at bit 0 of `high`."""
    comptime bits = quant_bits(type)
    comptime upper = bits - 4
    comptime if upper == 0:
        comptime if is_signed(type):
            return (low << comptime (Scalar[U32](28 - 4 * row))).cast[I32]() >> 28
        else:
            return ((low >> comptime (Scalar[U32](4 * row))) & 15).cast[I32]()
    else:
        var lower = (low >> comptime (Scalar[U32](4 * row))) & 15
        var top = high << comptime (Scalar[U32](32 - upper * (row + 1)))  # the upper bits of this row come first
        comptime if is_signed(type):
            return ((top.cast[I32]() >> comptime (Scalar[I32](28 - upper))) & -16) | lower.cast[I32]()
        else:
            return (((top >> comptime (Scalar[U32](28 - upper))) & 16) | lower).cast[I32]()


struct PanelRows[type: Int, V: Int](Movable):
    """The rows of a block of a panel, eight at a time, in V vectors from one of its columns on."""

    var block: PanelBlock[Self.type]
    var scale: Array[SIMD[F32, W], Self.V]
    var added: Array[SIMD[F32, W], Self.V]
    var low: Array[SIMD[U32, W], Self.V]  # 4 bits of eight rows
    var high: Array[SIMD[U32, W], Self.V]  # the upper bits of the remaining rows of the group
    var group: Int
    var eight: Int

    @always_inline
    def __init__(out self, block: UntrackedBytes, column: Int):
        """Start before the first row of the block at `block`."""
        self.block = PanelBlock[Self.type](block, column)
        self.scale = Array[SIMD[F32, W], Self.V](fill=0)
        self.added = Array[SIMD[F32, W], Self.V](fill=0)
        self.low = Array[SIMD[U32, W], Self.V](fill=0)
        self.high = Array[SIMD[U32, W], Self.V](fill=0)
        self.group = 0
        self.eight = 0

    @always_inline
    def enter_group(mut self, group: Int):
        """Load the scales of a group of `group_rows(type)` rows."""
        self.group = group
        comptime for v in range(Self.V):
            var scales = self.block.scales[W](group, v * W)
            self.scale[v] = scales.scale
            self.added[v] = scales.added
            comptime if quant_bits(Self.type) in (5, 6):
                self.high[v] = self.block.words[W](group, comptime (group_rows(Self.type) // 8), v * W)

    @always_inline
    def enter_eight[eight: Int](mut self):
        """Load eight rows of the group; call it for 0, 1, ... in this order."""
        self.eight = eight
        comptime if quant_bits(Self.type) < 8:
            comptime for v in range(Self.V):
                self.low[v] = self.block.words[W](self.group, eight, v * W)
                comptime if quant_bits(Self.type) > 4 and eight > 0:
                    self.high[v] >>= comptime (Scalar[U32](8 * (quant_bits(Self.type) - 4)))

    @always_inline
    def values[row: Int](self, v: Int) -> SIMD[F32, W]:
        """Return the values of one of the eight rows, in vector `v`."""
        var scales = Scales[W](self.scale[v], self.added[v])
        comptime if quant_bits(Self.type) == 8:
            return scales.value[Self.type](self.block.bytes[W](self.group, 8 * self.eight + row, v * W))
        else:
            return scales.value[Self.type](unpack[Self.type, row, W](self.low[v], self.high[v]))


def decode_block[type: Int](block: UntrackedBytes, column: Int, y: MutFloats, depth: Int):
    """Store a block of a panel as float32: its columns from `column` on, to y, [depth, NR]."""
    comptime GROUP = group_rows(type)
    var rows = PanelRows[type, NR_VECTORS](block, column)
    for group in range(depth // GROUP):
        rows.enter_group(group)
        comptime for eight in range(GROUP // 8):
            rows.enter_eight[eight]()
            comptime for row in range(8):
                comptime for v in range(NR_VECTORS):
                    var k = group * GROUP + comptime (8 * eight + row)
                    y.unsafe_store(k * NR + v * W, rows.values[row](v))


@fieldwise_init
struct Table(TrivialRegisterPassable):
    """An embedding, [rows, K], as in its file."""

    var data: UntrackedBytes
    var type: Int
    var K: Int

    @always_inline
    def row(self, index: Int) -> Self:
        """Return the table that starts at a row."""
        return Self(self.data.unsafe_offset(index * row_bytes(self.type, self.K)), self.type, self.K)

    @always_inline
    def floats(self) -> UntrackedFloats:
        """Return the address of the elements of a float32 table."""
        return self.data.unsafe_bitcast[Scalar[F32]]()

    def decode_rows(self, rows: Int, y: UntrackedFloats, y_stride: Int):
        """Store the first rows as float32 in y, whose rows are `y_stride` apart."""
        comptime for type in range(TYPES):
            if type == self.type:
                for row in range(rows):
                    decode_row[type](self.row(row).data, y.unsafe_offset(row * y_stride), self.K)


@always_inline
def decode_row[type: Int](row: UntrackedBytes, y: UntrackedFloats, K: Int):
    """Store a row of an embedding, [K], as float32."""
    comptime if is_quantised(type):
        comptime BLOCK = row_block(type)
        comptime width = min(W, group_rows(type))
        for block in range(K // BLOCK):
            var at = row.unsafe_offset(block * comptime (row_bytes(type, BLOCK)))
            var scales = block_scales[type](at)
            comptime for index in range(BLOCK // 32):
                var quants = block_quants[type, index](at)
                comptime for offset in range(32 * index, 32 * (index + 1), width):
                    y.unsafe_store(block * BLOCK + offset, block_values[type, offset, width](quants, scales))
    else:
        var k = 0
        while k + W <= K:
            y.unsafe_store(k, load_as[element_type(type), W](row, k))
            k += W
        while k < K:
            y.unsafe_store(k, load_as[element_type(type), 1](row, k))
            k += 1


#: The scales of all groups of a block in a row of an embedding.
comptime BlockScales[type: Int] = Scales[row_block(type) // group_rows(type)]


@always_inline
def block_scales[type: Int](block: UntrackedBytes) -> BlockScales[type]:
    """Return the scales of the groups of a block in a row of an embedding."""
    comptime GROUPS = row_block(type) // group_rows(type)
    comptime if type == TYPE_Q6_K:
        return {load_as[F16, 1](block, 104)[0] * load_as[I8, GROUPS](block, 192), 0}
    elif has_super_blocks(type):
        # Scales and mins of 8 groups, 6 bits each, in 12 bytes: the lower 6 bits of bytes 0 to 3 and 4 to 7 for the
        # first four groups; for the others 4 bits of bytes 8 to 11, below the upper 2 bits of bytes 0 to 7.
        var first = block.unsafe_load[width=4](4)
        var second = block.unsafe_load[width=4](8)
        var third = block.unsafe_load[width=4](12)
        var scale = (first & 63).join(((first >> 6) << 4) | (third & 15)).cast[F32]()
        var minimum = (second & 63).join(((second >> 6) << 4) | (third >> 4)).cast[F32]()
        var all = load_as[F16, 1](block, 0)[0] * rebind[SIMD[F32, GROUPS]](scale)
        return {all, -(load_as[F16, 1](block, 1)[0] * rebind[SIMD[F32, GROUPS]](minimum))}
    elif has_min(type):
        return {load_as[F16, 1](block, 0)[0], load_as[F16, 1](block, 1)[0]}
    else:
        return {load_as[F16, 1](block, 0)[0], 0}


@always_inline
def block_quants[type: Int, index: Int](block: UntrackedBytes) -> SIMD[I8, 32]:
    """Return 32 quants of a block in a row of an embedding, from element 32 * index on."""
    comptime if type == TYPE_Q8_0:
        return block.unsafe_offset(2).unsafe_bitcast[Scalar[I8]]().unsafe_load[width=32](0)
    elif type == TYPE_Q6_K:
        # Each half of a block has 64 bytes with 4 bits of elements l and l + 64, and 32 bytes with 2 bits of elements
        # l, l + 32, l + 64 and l + 96.
        comptime half = index // 4
        comptime quarter = index % 4
        var low = block.unsafe_load[width=32](half * 64 + quarter % 2 * 32) >> comptime (Scalar[U8](quarter // 2 * 4))
        var high = block.unsafe_load[width=32](128 + half * 32) >> comptime (Scalar[U8](quarter * 2))
        return ((low & 15) | ((high & 3) << 4)).cast[I8]() - 32
    elif has_super_blocks(type):
        comptime quants = 48 if type == TYPE_Q5_K else 16
        var low = (block.unsafe_load[width=32](quants + index // 2 * 32) >> comptime (Scalar[U8](index % 2 * 4))) & 15
        comptime if type == TYPE_Q5_K:
            low |= ((block.unsafe_load[width=32](16) >> comptime (Scalar[U8](index))) & 1) << 4
        return low.cast[I8]()
    else:
        comptime bits = quant_bits(type)
        comptime first = 2 + 2 * Int(has_min(type))
        var both = block.unsafe_load[width=16](first + 4 * (bits - 4))
        var quants = (both & 15).join(both >> 4)
        comptime if bits == 5:
            var word = block.unsafe_offset(first).unsafe_bitcast[Scalar[U32]]().unsafe_load(0)
            var high = ((SIMD[U32, 32](word) >> iota[U32, 32](0)) & 1).cast[U8]()
            quants |= high << 4
        comptime if is_signed(type):
            return quants.cast[I8]() - comptime (Scalar[I8](1 << (bits - 1)))
        else:
            return quants.cast[I8]()


@always_inline
def block_values[
    type: Int, offset: Int, width: Int
](quants: SIMD[I8, 32], scales: BlockScales[type]) -> SIMD[F32, width]:
    """Return the values of `width` quants of a block, from element `offset` of the block on, which is in `quants`."""
    comptime group = offset // group_rows(type)
    var own = Scales[width](scales.scale[group], scales.added[group])
    return own.value[type](quants.slice[width, offset=offset % 32]().cast[I32]())
