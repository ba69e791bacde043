"""GGUF files, written by the gguf package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import nn

from tests.checkpoints import reference_model
from tests.other_formats import EPSILON, conv1d_weights, linear_layout, linear_state, write_gguf
from tests.zoo.fixture import Build, Group, Loads, fixture
from tests.zoo.layouts import KEPT

Stored = tuple[np.ndarray, GGMLQuantizationType]


def assign(model: nn.Module, name: str, value: np.ndarray) -> None:
    """Give a model a weight that is `[out, in]`."""
    weight = torch.from_numpy(value.copy())
    model.state_dict()[name].copy_(weight.T if name in conv1d_weights(model) else weight)


def gguf_of(kind: GGMLQuantizationType, **changes: Any) -> Build:
    def build(folder: Path) -> nn.Module:
        """Write transformers' model, and give it the values that the gguf package makes of the stored ones."""
        model = reference_model(layer_norm_epsilon=EPSILON, **changes)
        weights = linear_layout(model)
        write_gguf(folder / "gpt2.gguf", weights, n_head=model.config.n_head, quantised=kind)
        for name, value in weights.items():
            if value.ndim == 2 and name != "lm_head.weight":  # which is wte
                assign(model, name, gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind))
        return model

    return build


def only(*dtypes: str) -> Loads:
    return Loads(dtypes=tuple(sorted({"F32", *dtypes})), by_transformers=False)


for name in ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "MXFP4"):
    sizes = {} if name in ("F32", "F16", "BF16") else {"n_embd": 32, "n_head": 4}  # rows are multiples of 32
    fixture(Group.FORMATS, f"GGUF, {name}", loads=only(name))(gguf_of(GGMLQuantizationType[name], **sizes))


def writer_of(stored: Mapping[str, Stored]) -> type[gguf.GGUFWriter]:
    """Return a writer that stores something else in the place of some tensors."""

    class Writer(gguf.GGUFWriter):
        def add_tensor(
            self,
            name: str,
            tensor: np.ndarray,
            raw_shape: Sequence[int] | None = None,
            raw_dtype: GGMLQuantizationType | None = None,
            tensor_endianess: gguf.GGUFEndian | None = None,
        ) -> None:
            content, kind = stored.get(name, (tensor, raw_dtype))
            super().add_tensor(name, content, raw_shape, kind, tensor_endianess)

    return Writer


def random_blocks(kind: GGMLQuantizationType, scales: Mapping[int, float], seed: int) -> np.ndarray:
    """Return 24 rows of one block each: random bytes, but for its float16 scales, which are at these places."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    rows = np.random.default_rng(seed).integers(0, 256, (24, size), np.uint8)
    for place, scale in scales.items():
        rows[:, place : place + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return rows


@fixture(Group.FORMATS, "GGUF, Q4_K and Q6_K", loads=only("Q4_K", "Q6_K"))
def k_types(folder: Path) -> nn.Module:
    """Have rows of 256 in types that the gguf package reads and does not make, as llama.cpp mixes them."""
    model = reference_model(layer_norm_epsilon=EPSILON, n_inner=256)
    q4_k, q6_k = GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q6_K
    blocks: list[Stored] = [
        (random_blocks(q4_k, {0: 5e-4, 2: 1e-2}, seed=0), q4_k),
        (random_blocks(q6_k, {208: 1e-4}, seed=1), q6_k),
        (random_blocks(q4_k, {0: 4e-4, 2: 9e-3}, seed=2), q4_k),
    ]
    stored = {f"blk.{layer}.ffn_down.weight": block for layer, block in enumerate(blocks)}
    write_gguf(folder / "gpt2.gguf", linear_layout(model), writer_type=writer_of(stored))
    for layer, (rows, kind) in enumerate(blocks):
        assign(model, f"transformer.h.{layer}.mlp.c_proj.weight", gguf.quants.dequantize(rows, kind))
    return model


@fixture(Group.FORMATS, "GGUF with a head of its own", loads=Loads(KEPT.head, by_transformers=False))
def own_head(folder: Path) -> nn.Module:
    model = reference_model(layer_norm_epsilon=EPSILON, tie_word_embeddings=False)
    weights = linear_layout(model)
    write_gguf(folder / "gpt2.gguf", weights | {"output.weight": weights["lm_head.weight"]})
    return model


@fixture(Group.FORMATS, "GGUF with a tensor of whole numbers")
def whole_numbers(folder: Path) -> None:
    stored = {"output_norm.bias": (np.ones(24, np.int8), GGMLQuantizationType.I8)}
    write_gguf(folder / "gpt2.gguf", linear_state(), writer_type=writer_of(stored))


@fixture(Group.FORMATS, "GGUF of another architecture")
def another_architecture(folder: Path) -> None:
    write_gguf(folder / "llama.gguf", linear_state(), architecture="llama", tokenizer=False)
