"""Models whose weights are stored in one of the types, and the same models dequantised by the `gguf` package."""

import gguf
import numpy as np

from max_gpt2.checkpoint.layout import canonical_shapes, is_conv1d
from max_gpt2.config import GPT2Config
from max_gpt2.weights import LM_HEAD, WTE, Quantised, Weight
from max_gpt2.weights.panels import pack_panels
from max_gpt2.weights.quantise import FLOATS

#: Rows of every matrix are whole blocks. The last block of 256 rows is shorter for some.
LEGACY = GPT2Config(203, n_positions=400, n_embd=96, n_head=3, n_layer=2, n_inner=352)
SUPER = GPT2Config(203, n_positions=400, n_embd=256, n_head=4, n_layer=2, n_inner=512)
#: Only the rows of `mlp.c_proj` are whole blocks, so other matrices are float16, and its columns do not fill a panel.
MIXED = GPT2Config(203, n_positions=400, n_embd=84, n_head=3, n_layer=2, n_inner=512)


def configs(type_: str) -> list[GPT2Config]:
    """Return configs for which a type can be used, at least in part."""
    return [SUPER if type_.endswith("_K") else LEGACY, MIXED]


def random_blocks(type_: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return random blocks with scales of either sign for a matrix [rows, columns]: [rows, row_bytes]."""
    rows, columns = shape
    length, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_]]
    blocks = rng.integers(0, 256, (rows, columns // length, size), dtype=np.uint8)
    scale = 0.1 / columns**0.5 / {"Q8_0": 100, "Q6_K": 2000, "Q4_K": 200, "Q5_K": 400}.get(type_, 8)
    scales = (rng.standard_normal((rows, columns // length, 2)) * scale).astype(np.float16).view(np.uint8)
    if type_ == "Q6_K":
        blocks[..., -2:] = scales[..., :2]
    else:
        count = 4 if type_ in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else 2
        blocks[..., :count] = scales[..., :count]
    return blocks.reshape(rows, -1)


def stored_pair(config: GPT2Config, type_: str) -> tuple[dict[str, Weight], dict[str, np.ndarray]]:
    """Return random weights in a type, as the kernels read them, and their values in float32.

    A matrix whose rows are no whole blocks is float16.
    """
    rng = np.random.default_rng(config.n_embd)
    native: dict[str, Weight] = {}
    values: dict[str, np.ndarray] = {}
    for name, shape in canonical_shapes(config).items():
        if name != LM_HEAD:
            native[name], values[name] = _random(type_, name, shape, rng)
    return native | {LM_HEAD: native[WTE]}, values | {LM_HEAD: values[WTE]}


def _random(type_: str, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Weight, np.ndarray]:
    if not is_conv1d(name) and name != WTE:
        vector = rng.standard_normal(shape, np.float32)
        return vector, vector
    stored = shape[::-1] if is_conv1d(name) else shape  # [rows, columns]
    if type_ in FLOATS or stored[1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_]][0]:
        dtype = FLOATS.get(type_, np.dtype(np.float16))
        matrix = (rng.standard_normal(shape, np.float32) * 0.1).astype(dtype)
        return matrix, matrix.astype(np.float32)
    blocks = random_blocks(type_, stored, rng)
    dequantised = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[type_])
    if is_conv1d(name):
        return pack_panels(type_, blocks), np.ascontiguousarray(dequantised.T)
    return Quantised(type_, shape, blocks), dequantised
