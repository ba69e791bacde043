"""Panels hold exactly the values of the GGUF blocks that they were packed from."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st

from max_gpt2.weights.panels import block_length, pack_panels, panels_size, unpack_panels
from max_gpt2.weights.quantise import type_size
from max_gpt2.weights.types import NUMBERS, TYPES

LEGACY = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K")
QUANTISED = LEGACY + K_QUANTS


def random_blocks(type_: str, inputs: int, outputs: int, seed: int = 0) -> np.ndarray:
    """Return random blocks of finite weights, [outputs, row_bytes]: every bit of quants and scales occurs."""
    length, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[type_]]
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (outputs, inputs // length, size), np.uint8)
    at = {"Q3_K": (108,), "Q6_K": (208,), "Q8_0": (0,), "Q4_0": (0,), "Q5_0": (0,)}.get(type_, (0, 2))
    for offset in at:  # float16 scales
        scales = rng.standard_normal((outputs, inputs // length)).astype(np.float16)
        blocks[..., offset : offset + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(outputs, -1)


def reference(type_: str, rows: np.ndarray) -> np.ndarray:
    """Return the values that the gguf package computes, [inputs, outputs]."""
    return np.ascontiguousarray(gguf.quants.dequantize(rows, GGMLQuantizationType[type_]).T)


def test_types_are_those_of_gguf() -> None:
    assert set(TYPES) - {"F32", "F16", "BF16"} == set(QUANTISED)
    for number, name in NUMBERS.items():
        kind = GGMLQuantizationType[name]
        assert number == kind
        assert (block_length(name), type_size(name)) == gguf.GGML_QUANT_SIZES[kind]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(QUANTISED), st.integers(1, 25), st.integers(1, 600), st.integers(0, 2**32))
def test_unpacked_values_are_bitwise_those_of_gguf(type_: str, blocks: int, outputs: int, seed: int) -> None:
    inputs = 32 * blocks if type_ in LEGACY else 256 * (blocks % 3 + 1)
    rows = random_blocks(type_, inputs, outputs, seed)
    packed = pack_panels(type_, rows)
    assert packed.shape == (inputs, outputs)
    assert packed.data.shape == (panels_size(type_, inputs, outputs),)
    expected = reference(type_, rows)
    np.testing.assert_array_equal(unpack_panels(packed).view(np.uint32), expected.view(np.uint32))


def panel(type_: str, packed: np.ndarray, inputs: int, outputs: int, block: int, number: int) -> bytes:
    """Return the bytes of one panel, found by the offsets that the kernels compute."""
    panels = -(-outputs // 32)
    rows = min(256, inputs - 256 * block)
    start = block * panels * panels_size(type_, 256, 32) + number * panels_size(type_, rows, 32)
    return packed[start : start + panels_size(type_, rows, 32)].tobytes()


@pytest.mark.parametrize("type_", LEGACY)
@pytest.mark.parametrize(("block", "number"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_layout_of_legacy_types(type_: str, block: int, number: int) -> None:
    """Decode single bits of a panel; the last block has 64 rows, and the last panel 13 columns."""
    inputs, outputs = 320, 45
    rows = random_blocks(type_, inputs, outputs)
    content = panel(type_, pack_panels(type_, rows).data, inputs, outputs, block, number)
    expected = reference(type_, rows)
    quants = {"Q8_0": 1024, "Q4_0": 512, "Q4_1": 512, "Q5_0": 640, "Q5_1": 640}[type_]
    scales = 128 if type_.endswith("_1") else 64
    assert len(content) == (8 if block == 0 else 2) * (scales + quants)
    for row, column in [(0, 0), (1, 12), (31, 5), (32, 3), (63, 12), (45, 7)]:
        record = content[row // 32 * (scales + quants) :]
        at, r = scales, row % 32
        d = np.frombuffer(record, "<f2", 1, 2 * column)[0].astype(np.float32)
        m = np.frombuffer(record, "<f2", 1, 64 + 2 * column)[0].astype(np.float32) if scales == 128 else np.float32(0)
        if type_ == "Q8_0":
            q = int(np.frombuffer(record, "i1", 1, at + 32 * r + column)[0])
        else:
            word = int(np.frombuffer(record, "<u4", 1, at + 128 * (r // 8) + 4 * column)[0])
            q, bits = word >> 4 * (r % 8) & 15, 4
            if type_.startswith("Q5"):
                q |= (int(np.frombuffer(record, "<u4", 1, at + 512 + 4 * column)[0]) >> r & 1) << 4
                bits = 5
            if type_.endswith("_0") and q >= 1 << bits - 1:  # two's complement
                q -= 1 << bits
        value = d * np.float32(q)
        assert (value + m if scales == 128 else value) == expected[256 * block + row, 32 * number + column]


@pytest.mark.parametrize("type_", K_QUANTS)
@pytest.mark.parametrize(("block", "number"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_layout_of_k_quants(type_: str, block: int, number: int) -> None:
    inputs, outputs = 512, 45
    rows = random_blocks(type_, inputs, outputs)
    content = panel(type_, pack_panels(type_, rows).data, inputs, outputs, block, number)
    expected = reference(type_, rows)
    header, length = (64, 16) if type_ == "Q6_K" else (128, 32)
    record_size = {"Q4_K": 64 + 512, "Q5_K": 64 + 640, "Q6_K": 32 + 384}[type_]
    assert len(content) == header + 256 // length * record_size
    for row, column in [(0, 0), (1, 12), (31, 5), (47, 3), (100, 8), (255, 12)]:
        d = np.frombuffer(content, "<f2", 1, 2 * column)[0].astype(np.float32)
        record, r = content[header + row // length * record_size :], row % length
        if type_ == "Q6_K":
            scale = np.frombuffer(record, "i1", 1, column)[0].astype(np.float32)
            word = int(np.frombuffer(record, "<u4", 1, 32 + 128 * (r // 8) + 4 * column)[0])
            top = int(np.frombuffer(record, "<u4", 1, 32 + 256 + 4 * column)[0])
            q = (word >> 4 * (r % 8) & 15) | (top >> 2 * r & 3) << 4
            value = d * scale * np.float32(q - 64 if q >= 32 else q)
        else:
            dmin = np.frombuffer(content, "<f2", 1, 64 + 2 * column)[0].astype(np.float32)
            scale, minimum = np.float32(record[column]), np.float32(record[32 + column])
            word = int(np.frombuffer(record, "<u4", 1, 64 + 128 * (r // 8) + 4 * column)[0])
            q = word >> 4 * (r % 8) & 15
            if type_ == "Q5_K":
                q |= (int(np.frombuffer(record, "<u4", 1, 64 + 512 + 4 * column)[0]) >> r & 1) << 4
            value = d * scale * np.float32(q) - dmin * minimum
        assert value == expected[256 * block + row, 32 * number + column]


@pytest.mark.parametrize("type_", QUANTISED)
def test_padding_of_the_last_panel_is_zero(type_: str) -> None:
    """The padding changes neither a result nor the file of the packed weights."""
    rows = random_blocks(type_, 256, 1)
    content = np.frombuffer(panel(type_, pack_panels(type_, rows).data, 256, 1, 0, 0), np.uint8)
    used = np.count_nonzero(content)
    assert 0 < used <= rows.size + 16  # unpacked 6-bit scales take four bytes more than packed ones


def test_rows_that_are_mapped_read_only_at_odd_addresses_are_packed() -> None:
    rows = random_blocks("Q5_K", 256, 40)
    shifted = np.concatenate([np.zeros(1, np.uint8), rows.ravel()])[1:].reshape(rows.shape)
    shifted.flags.writeable = False
    np.testing.assert_array_equal(pack_panels("Q5_K", shifted).data, pack_panels("Q5_K", rows).data)
