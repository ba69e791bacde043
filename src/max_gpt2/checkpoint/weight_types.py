"""Choose the type that each tensor has in memory, before any values are read."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

from max_gpt2.checkpoint.formats import StoredTensor
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes, is_conv1d
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.weights.panels import block_bytes, block_length, panels_size
from max_gpt2.weights.quantise import FLOATS, MAKEABLE, fitting_type
from max_gpt2.weights.types import OPTION_TYPES, TYPES, WeightsOption

#: llama.cpp stores the output head in Q6_K beside smaller types, and in Q8_0 where rows are no multiple of 256. The
#: `gguf` package makes only the latter.
_HEADS = dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1"), "Q8_0") | {"Q4_K": "Q6_K", "Q5_K": "Q6_K"}

_REMEDY = "Quantise a GGUF file with llama.cpp's llama-quantize and load that, or use another type, such as q5_0."


def is_matrix(name: str) -> bool:
    """Return True for the tensors that may have any type: the linear layers, `wte` and the head; others are float32."""
    return is_conv1d(name) or name in (WTE, LM_HEAD)


def choose_types(
    config: GPT2Config, sources: Mapping[str, StoredTensor], weights: WeightsOption, path: Path
) -> dict[str, str]:
    """Return the type, one of `TYPES`, of each tensor by canonical name.

    "auto" keeps the stored types, except those without a kernel, which become float32. Another option is the type of
    all matrices, with the fallbacks of llama.cpp where a row is not a multiple of a block. Raises RequestError for a
    K-quant that the file does not have.
    """
    shapes = canonical_shapes(config)
    types = dict.fromkeys(sources, "F32")
    for name, stored in sources.items():
        if is_matrix(name):
            row = shapes[name][0 if is_conv1d(name) else 1]
            head = name == LM_HEAD or (name == WTE and LM_HEAD not in sources)
            types[name] = _choose(weights, stored, row, head=head)
            if types[name] not in (*MAKEABLE, stored.dtype):
                remedy = "Use auto, which keeps the types of the file." if stored.quantised else _REMEDY
                raise RequestError(
                    f"{stored.name} in {path} is {stored.dtype} and cannot be converted to {types[name]}: the gguf "
                    f"package makes no K-quants. {remedy}"
                )
    return types


def _choose(weights: WeightsOption, stored: StoredTensor, row: int, *, head: bool) -> str:
    if weights == "auto":
        return stored.dtype if stored.dtype in TYPES else "F32"
    type_ = OPTION_TYPES[weights]
    if head and type_ in _HEADS:
        return "Q6_K" if stored.dtype == "Q6_K" else fitting_type(_HEADS[type_], row)
    return fitting_type(type_, row)


def type_bytes(name: str, type_: str, shape: tuple[int, ...]) -> int:
    """Return the bytes in memory of the tensor with this canonical name, type and canonical shape."""
    if dtype := FLOATS.get(type_):
        return dtype.itemsize * prod(shape)
    if is_conv1d(name):
        return panels_size(type_, *shape)
    return prod(shape) // block_length(type_) * block_bytes(type_)


def is_exact(stored: str, type_: str) -> bool:
    """Return True if a conversion from the stored type changes no value."""
    return type_ in ("F32", stored)
