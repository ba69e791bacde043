"""Pack the blocks of a GGUF tensor into the panels that the kernels read, and compute the values of panels.

A GGUF row holds the weights of one output. A kernel computes many outputs at a time, so it reads panels of `PANEL`
outputs (columns), with the values of a row beside each other. The rows are cut into blocks of `ROWS`; the last block
may be shorter, and the last panel is padded with zero bytes. The panels of one block of rows follow each other, then
those of the next block.

A panel has a header (K-quants only) and a record for each sub-block of 32 rows (Q6_K: 16). Signed quants are stored in
two's complement. The value of a weight is d*q, d*q + m, (d*scale)*q or (d*scale)*q - dmin*min, in float32.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from max_gpt2.weights.types import PANEL, Quantised

#: Rows of a panel: the length of a block of the K-quants.
ROWS = 256
#: Panels that are packed at a time: enough to amortise the calls, few enough to stay in the CPU cache.
_GROUP = 16

_HALF, _LONG, _WORD, _BYTE, _SIGNED = "<f2", "<u8", "<u4", "u1", "i1"
_NIBBLES: Any = ("qs", _LONG, 2)
_K_BLOCK: list[Any] = [("d", _HALF), ("dmin", _HALF), ("scales", _BYTE, (3, 4))]
#: A block of each type as it is in a GGUF file; eight bytes of quants are one number.
_BLOCKS: dict[str, list[Any]] = {
    "Q8_0": [("d", _HALF), ("qs", _SIGNED, 32)],
    "Q4_0": [("d", _HALF), _NIBBLES],
    "Q4_1": [("d", _HALF), ("m", _HALF), _NIBBLES],
    "Q5_0": [("d", _HALF), ("qh", _WORD), _NIBBLES],
    "Q5_1": [("d", _HALF), ("m", _HALF), ("qh", _WORD), _NIBBLES],
    "Q4_K": [*_K_BLOCK, ("qs", _LONG, (4, 4))],
    "Q5_K": [*_K_BLOCK, ("qh", _LONG, 4), ("qs", _LONG, (4, 4))],
    "Q6_K": [("ql", _LONG, (2, 8)), ("qh", _LONG, (2, 4)), ("scales", _SIGNED, 16), ("d", _HALF)],
}

_D: Any = ("d", _HALF, PANEL)
_M: Any = ("m", _HALF, PANEL)
_MINS: list[Any] = [("scale", _BYTE, PANEL), ("min", _BYTE, PANEL)]
_LOW: Any = ("low", _WORD, (4, PANEL))
_HIGH: Any = ("high", _WORD, PANEL)
#: The record of a sub-block in a panel.
_RECORDS: dict[str, list[Any]] = {
    "Q8_0": [_D, ("low", _SIGNED, (32, PANEL))],
    "Q4_0": [_D, _LOW],
    "Q4_1": [_D, _M, _LOW],
    "Q5_0": [_D, _LOW, _HIGH],
    "Q5_1": [_D, _M, _LOW, _HIGH],
    "Q4_K": [*_MINS, _LOW],
    "Q5_K": [*_MINS, _LOW, _HIGH],
    "Q6_K": [("scale", _SIGNED, PANEL), ("low", _WORD, (2, PANEL)), _HIGH],
}
_HEADERS: dict[str, list[Any]] = {
    "Q4_K": [_D, ("dmin", _HALF, PANEL)],
    "Q5_K": [_D, ("dmin", _HALF, PANEL)],
    "Q6_K": [_D],
}
_SUB_ROWS = {"Q6_K": 16}
#: Flips the sign bits of the quants that GGUF stores with an offset: the result is two's complement.
_FLIP_LOW = {"Q4_0": 0x88888888}
_FLIP_HIGH = {"Q5_0": 0xFFFFFFFF, "Q6_K": 0xAAAAAAAA}


def pack_panels(type_: str, rows: np.ndarray) -> Quantised:
    """Pack the blocks of GGUF, [out, row_bytes] of uint8, into panels; the result has the shape [in, out]."""
    blocks = as_blocks(type_, rows)
    outputs, per_block = len(rows), block_length(type_)
    inputs = blocks.shape[1] * per_block
    data = np.zeros(panels_size(type_, inputs, outputs), np.uint8)
    for first, panels in _row_blocks(type_, inputs, outputs, data):
        count, length = len(panels), panels.dtype["sub"].shape[0] * _SUB_ROWS.get(type_, 32)
        part = blocks[:, first // per_block :][:, : count * length // per_block]
        for start in range(0, outputs, PANEL * _GROUP):
            group = part[start : start + PANEL * _GROUP]
            whole = len(group) // PANEL
            at = start // PANEL
            if whole:
                _fill(type_, panels[:, at : at + whole], group[: whole * PANEL].reshape(whole, PANEL, -1))
            if rest := len(group) % PANEL:
                _fill(type_, panels[:, at + whole : at + whole + 1], group[None, -rest:])
    return Quantised(type_, (inputs, outputs), data)


def unpack_panels(weight: Quantised) -> np.ndarray:
    """Return the values of a weight in panels, [in, out] in float32, bitwise as `gguf.quants.dequantize` does."""
    inputs, outputs = weight.shape
    result = np.empty((inputs, outputs), np.float32)
    for first, blocks in _row_blocks(weight.type, inputs, outputs, weight.data):
        for at in range(0, blocks.shape[1], _GROUP):
            panels = blocks[:, at : at + _GROUP]
            values = _values(weight.type, panels)  # [block, panel, row, column]
            values = values.transpose(0, 2, 1, 3).reshape(-1, panels.shape[1] * PANEL)
            columns = result[first : first + len(values), at * PANEL : (at + _GROUP) * PANEL]
            columns[:] = values[:, : columns.shape[1]]
    return result


def as_blocks(type_: str, rows: np.ndarray) -> np.ndarray:
    """Return rows of GGUF, [rows, row_bytes] of uint8, as blocks with named fields: [rows, blocks]."""
    return rows.view(np.dtype(_BLOCKS[type_]))


def block_length(type_: str) -> int:
    """Return the number of values in a block of a quantised type; 1 for a type of floating-point numbers."""
    return (ROWS if type_ in _HEADERS else 32) if type_ in _BLOCKS else 1


def block_bytes(type_: str) -> int:
    """Return the bytes of a block of a quantised type in a GGUF file."""
    return np.dtype(_BLOCKS[type_]).itemsize


def panels_size(type_: str, inputs: int, outputs: int) -> int:
    """Return the bytes of the panels of a weight [in, out]."""
    panels = -(-outputs // PANEL)
    full, rest = divmod(inputs, ROWS)
    return panels * (full * _panel(type_, ROWS).itemsize + _panel(type_, rest).itemsize * bool(rest))


def _panel(type_: str, rows: int) -> np.dtype[Any]:
    """Return the layout of a panel with this number of rows."""
    records = ("sub", _RECORDS[type_], (rows // _SUB_ROWS.get(type_, 32),))
    return np.dtype([*_HEADERS.get(type_, []), records])


def _row_blocks(type_: str, inputs: int, outputs: int, data: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row and the panels, [block, panel], of the full blocks of rows and of the shorter last one."""
    panels = -(-outputs // PANEL)
    full, rest = divmod(inputs, ROWS)
    whole = _panel(type_, ROWS)
    end = full * panels * whole.itemsize
    if full:
        yield 0, data[:end].view(whole).reshape(full, panels)
    if rest:
        yield full * ROWS, data[end:].view(_panel(type_, rest)).reshape(1, panels)


def _fill(type_: str, panels: np.ndarray, blocks: np.ndarray) -> None:
    """Fill panels [block, panel] from the blocks [panel, column, ...] of their columns."""
    count, columns, _ = blocks.shape
    headers = [name for name in panels.dtype.names or () if name != "sub"]
    shape = (count, columns, *panels.dtype["sub"].shape)
    for name, values in _fields(type_, blocks).items():
        if name in headers:
            target, by_block = panels[name], values
        else:
            target = panels["sub"][name]
            by_block = values.reshape(count, columns, len(panels), shape[2], *target.shape[3:-1])
        # [panel, column, block, ...] -> [block, panel, ..., column]
        target[..., :columns] = np.moveaxis(by_block, 1, -1).swapaxes(0, 1)


def _fields(type_: str, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of a panel from blocks [panel, column, block], with the sub-blocks and words last."""
    fields: dict[str, np.ndarray] = {
        name: blocks[name] for name in ("d", "m", "dmin") if name in (blocks.dtype.names or ())
    }
    if type_ == "Q8_0":
        return fields | {"low": blocks["qs"]}
    if type_ == "Q6_K":
        fields |= {"scale": blocks["scales"], "low": _split_nibbles(blocks["ql"]), "high": _top_two_bits(blocks["qh"])}
    else:
        fields["low"] = _split_nibbles(blocks["qs"])
    if type_ in ("Q4_K", "Q5_K"):
        fields["scale"], fields["min"] = _six_bits(blocks["scales"])
    if type_ == "Q5_K":
        fields["high"] = _fifth_bits(blocks["qh"])
    elif type_ in ("Q5_0", "Q5_1"):
        fields["high"] = blocks["qh"]
    if flip := _FLIP_LOW.get(type_):
        fields["low"] ^= np.uint32(flip)
    if flip := _FLIP_HIGH.get(type_):
        fields["high"] = fields["high"] ^ np.uint32(flip)
    return fields


def _split_nibbles(longs: np.ndarray) -> np.ndarray:
    """Return the low nibbles of all bytes of the last axis, then the high ones, eight to a word."""
    words = np.empty((*longs.shape[:-1], 2, longs.shape[-1]), np.uint32)
    for half, shift in enumerate((0, 4)):
        spread = (longs >> np.uint64(shift)) & np.uint64(0x0F0F0F0F0F0F0F0F)
        for step, mask in ((4, 0x00FF00FF00FF00FF), (8, 0x0000FFFF0000FFFF), (16, 0x00000000FFFFFFFF)):
            spread |= spread >> np.uint64(step)
            spread &= np.uint64(mask)
        words[..., half, :] = spread
    return words


def _top_two_bits(longs: np.ndarray) -> np.ndarray:
    """Return the four pairs of bits in each byte of Q6_K, in the order of the values, sixteen to a word."""
    words = np.empty((*longs.shape[:-1], 4, longs.shape[-1]), np.uint16)
    for pair in range(4):
        spread = (longs >> np.uint64(2 * pair)) & np.uint64(0x0303030303030303)
        for step, mask in ((6, 0x000F000F000F000F), (12, 0x000000FF000000FF), (24, 0x000000000000FFFF)):
            spread |= spread >> np.uint64(step)
            spread &= np.uint64(mask)
        words[..., pair, :] = spread
    return words.view(np.uint32)


def _fifth_bits(longs: np.ndarray) -> np.ndarray:
    """Return for each of the eight bits in 32 bytes of Q5_K a word with that bit of all bytes."""
    words = np.empty((*longs.shape[:-1], 8, longs.shape[-1]), np.uint8)
    for bit in range(8):
        spread = (longs >> np.uint64(bit)) & np.uint64(0x0101010101010101)
        # The product has bit 0 of byte k in bit 56 + k.
        words[..., bit, :] = (spread * np.uint64(0x0102040810204080)) >> np.uint64(56)
    return words.view(np.uint32)


def _six_bits(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eight scales and eight minimums of six bits in 12 bytes of Q4_K and Q5_K, [..., 3, 4]."""
    scale, minimum, rest = (packed[..., index, :] for index in range(3))
    scales = np.concatenate([scale & 0x3F, rest & 0x0F | scale >> 2 & 0x30], axis=-1)
    minimums = np.concatenate([minimum & 0x3F, rest >> 4 | minimum >> 2 & 0x30], axis=-1)
    return scales, minimums


def _values(type_: str, panels: np.ndarray) -> np.ndarray:
    """Return the float32 values of panels [block, panel] as [block, panel, row, column]."""
    records = panels["sub"]
    quants = _quants(type_, records).astype(np.float32)  # [block, panel, sub-block, row, column]
    with np.errstate(all="ignore"):  # NaN and infinite scales are reported when the weights are checked
        if type_ in _HEADERS:
            scale = panels["d"].astype(np.float32)[:, :, None] * records["scale"].astype(np.float32)
        else:
            scale = records["d"].astype(np.float32)
        quants *= scale[:, :, :, None]
        if "dmin" in (panels.dtype.names or ()):
            minimum = panels["dmin"].astype(np.float32)[:, :, None] * records["min"].astype(np.float32)
            quants -= minimum[:, :, :, None]
        elif "m" in (records.dtype.names or ()):
            quants += records["m"].astype(np.float32)[:, :, :, None]
    return quants.reshape(*panels.shape, -1, PANEL)


def _quants(type_: str, records: np.ndarray) -> np.ndarray:
    """Return the quants of records [...] as [..., row, column], in int8 or uint8."""
    if type_ == "Q8_0":
        return records["low"]
    shifts = np.arange(0, 32, 4, dtype=np.uint32)[:, None]
    low = (records["low"][..., None, :] >> shifts & np.uint32(0xF)).astype(np.uint8)  # [..., word, row of 8, column]
    quants = low.reshape(*low.shape[:-3], -1, PANEL)
    bits = 4
    if "high" in (records.dtype.names or ()):
        width = 2 if type_ == "Q6_K" else 1
        shifts = np.arange(0, 32, width, dtype=np.uint32)[:, None]
        high = records["high"][..., None, :] >> shifts & np.uint32(2**width - 1)
        quants |= high.astype(np.uint8) << np.uint8(4)
        bits += width
    if type_ in _FLIP_LOW or type_ in _FLIP_HIGH:  # extend the sign
        return (quants << np.uint8(8 - bits)).view(np.int8) >> np.int8(8 - bits)
    return quants
