"""Read llm.c's `.bin`: a header of 256 int32 values, then the tensors, each kind for all layers consecutively.

Linear weights are `[out, in]`; the head is tied; `wte` has extra rows that pad the vocabulary.
"""

from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.checkpoint.formats.mapping import MappedFile
from max_gpt2.checkpoint.formats.source import EXACT, Source, StoredTensor
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError
from max_gpt2.weights import WTE

_HEADER = 256  # int32 values
_VERSIONS = {3: "F32", 5: "BF16"}


class _Sizes(NamedTuple):
    """The header's fields, in file order."""

    n_positions: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    padded_vocab_size: int


class _Kind(NamedTuple):
    """One kind of tensor: llm.c's name, the canonical name (with {} for the layer), and the shape per layer."""

    name: str
    canonical_name: str
    shape: tuple[int, ...]


def read_llmc(path: Path, file: Path) -> Source:
    """Read the header of a file and list its tensors; raises CheckpointError or ConfigError."""
    version, sizes = _header(file)
    dtype_name = _VERSIONS[version]
    dtype = EXACT[dtype_name]
    _check_size(file, sizes, dtype)
    values = sizes._asdict()
    padded = values.pop("padded_vocab_size")
    fixed = {"model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
    config = GPT2Config.from_dict(
        values | fixed | {"bos_token_id": None}, f"The header of {file}", "Use another checkpoint."
    )
    mapped = MappedFile(file, [(0, file.stat().st_size)])
    tensors = []
    offset = 4 * _HEADER
    for kind in _kinds(sizes):
        layers = sizes.n_layer if "{}" in kind.canonical_name else 1
        for layer in range(layers):
            name = f"{kind.name}[{layer}]" if "{}" in kind.canonical_name else kind.name
            canonical_name = kind.canonical_name.format(layer)
            # The padding rows come last in wte.
            shape = (sizes.vocab_size, sizes.n_embd) if canonical_name == WTE else kind.shape
            read, kept = (partial(one, dtype, offset, shape) for one in (mapped.values, mapped.kept_values))
            tensors.append(StoredTensor(name, dtype_name, shape, file, read, canonical_name, read_kept=kept))
            offset += prod(kind.shape) * dtype.itemsize
    padding = {f"wte[{sizes.vocab_size}:{padded}]": "rows that pad the vocabulary"}
    return Source("llm.c", path, tensors, config, skipped=padding if padded > sizes.vocab_size else {})


def _header(file: Path) -> tuple[int, _Sizes]:
    with file.open("rb") as opened:
        start = opened.read(4 * _HEADER)
    if len(start) < 4 * _HEADER:
        raise CheckpointError(f"{file} is truncated: it is shorter than llm.c's header. {AGAIN}")
    numbers = np.frombuffer(start, "<i4").tolist()
    version, sizes = numbers[1], _Sizes(*numbers[2:8])
    if version not in _VERSIONS:
        raise CheckpointError(
            f"{file} has llm.c version {version}; supported are 3 (float32) and 5 (bfloat16). "
            "Export it again with llm.c."
        )
    if min(sizes) < 1 or sizes.padded_vocab_size < sizes.vocab_size:
        numbers_there = ", ".join(f"{name} {value}" for name, value in sizes._asdict().items())
        raise CheckpointError(f"{file} is damaged: its header has {numbers_there}. {AGAIN}")
    return version, sizes


def _check_size(file: Path, sizes: _Sizes, dtype: np.dtype) -> None:
    numbers = sum(prod(kind.shape) * (sizes.n_layer if "{}" in kind.canonical_name else 1) for kind in _kinds(sizes))
    expected, found = 4 * _HEADER + numbers * dtype.itemsize, file.stat().st_size
    if found != expected:
        raise CheckpointError(
            f"{file} is truncated or damaged: it has {found:,} bytes instead of {expected:,}. {AGAIN}"
        )


def _kinds(sizes: _Sizes) -> list[_Kind]:
    n_embd, block = sizes.n_embd, "transformer.h.{}"
    return [
        _Kind("wte", WTE, (sizes.padded_vocab_size, n_embd)),
        _Kind("wpe", "transformer.wpe.weight", (sizes.n_positions, n_embd)),
        _Kind("ln1w", f"{block}.ln_1.weight", (n_embd,)),
        _Kind("ln1b", f"{block}.ln_1.bias", (n_embd,)),
        _Kind("qkvw", f"{block}.attn.c_attn.weight", (3 * n_embd, n_embd)),
        _Kind("qkvb", f"{block}.attn.c_attn.bias", (3 * n_embd,)),
        _Kind("attprojw", f"{block}.attn.c_proj.weight", (n_embd, n_embd)),
        _Kind("attprojb", f"{block}.attn.c_proj.bias", (n_embd,)),
        _Kind("ln2w", f"{block}.ln_2.weight", (n_embd,)),
        _Kind("ln2b", f"{block}.ln_2.bias", (n_embd,)),
        _Kind("fcw", f"{block}.mlp.c_fc.weight", (4 * n_embd, n_embd)),
        _Kind("fcb", f"{block}.mlp.c_fc.bias", (4 * n_embd,)),
        _Kind("fcprojw", f"{block}.mlp.c_proj.weight", (n_embd, 4 * n_embd)),
        _Kind("fcprojb", f"{block}.mlp.c_proj.bias", (n_embd,)),
        _Kind("lnfw", "transformer.ln_f.weight", (n_embd,)),
        _Kind("lnfb", "transformer.ln_f.bias", (n_embd,)),
    ]
