"""Read GGUF, llama.cpp's format, with the architecture `gpt2`: one file with config, tokenizer and weights.

Linear weights are `[out, in]`. The `gguf` package dequantises quantised weights. llama.cpp computes GPT-2 with the
tanh approximation of GELU.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.checkpoint.formats.gguf_header import Header, TensorInfo, check_offsets, elements, read_header
from max_gpt2.checkpoint.formats.mapping import MappedFile
from max_gpt2.checkpoint.formats.source import EXACT, Source, StoredTensor
from max_gpt2.checkpoint.layout import LM_HEAD, WTE
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError, ConfigError, TokenizerError, listed
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.weights.panels import block_length
from max_gpt2.weights.quantise import dequantise, type_size
from max_gpt2.weights.types import NUMBERS

_REMEDY = "Use another checkpoint."
_FIELDS = {
    "gpt2.context_length": "n_positions",
    "gpt2.embedding_length": "n_embd",
    "gpt2.block_count": "n_layer",
    "gpt2.attention.head_count": "n_head",
    "gpt2.feed_forward_length": "n_inner",
    "gpt2.attention.layer_norm_epsilon": "layer_norm_epsilon",
}
_NAMES = {
    "token_embd.weight": WTE,
    "position_embd.weight": "transformer.wpe.weight",
    "output_norm.weight": "transformer.ln_f.weight",
    "output_norm.bias": "transformer.ln_f.bias",
    "output.weight": LM_HEAD,
}
_BLOCK_NAMES = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5


def gguf_name(canonical: str) -> str:
    """Return the name in a GGUF file of the tensor with a canonical name."""
    if block := re.fullmatch(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)", canonical):
        layer, part, kind = block.groups()
        return f"blk.{layer}.{next(theirs for theirs, ours in _BLOCK_NAMES.items() if ours == part)}.{kind}"
    return next(theirs for theirs, ours in _NAMES.items() if ours == canonical)


def read_gguf(path: Path, file: Path) -> Source:
    """Read the metadata of a file and list its tensors; raises ConfigError or CheckpointError."""
    header = read_header(file)
    config = _config(header, file)
    tensors = _tensors(header, file)
    holds_tokenizer = "tokenizer.ggml.tokens" in header.metadata
    tokenizer = partial(_tokenizer, file, header.metadata) if holds_tokenizer else None
    return Source("GGUF", path, tensors, config, tokenizer=tokenizer)


def _config(header: Header, file: Path) -> GPT2Config:
    metadata, source = header.metadata, f"The metadata of {file}"
    architecture = metadata.get("general.architecture")
    if architecture != "gpt2":
        raise ConfigError(f'{source}: general.architecture is {architecture!r}, not "gpt2". {_REMEDY}')
    embeddings = [info.shape[0] for info in header.tensors if info.name == "token_embd.weight" and info.shape]
    problems = [f"{name} is missing" for name in _FIELDS if name not in metadata]
    if not embeddings:
        problems.append("there is no tensor token_embd.weight, which gives the vocabulary size")
    if problems:
        raise ConfigError(listed(source, problems, _REMEDY))
    values = {ours: metadata[theirs] for theirs, ours in _FIELDS.items()}
    if isinstance(values["layer_norm_epsilon"], float):  # stored as float32, which would turn 1e-05 into 9.99999974e-06
        values["layer_norm_epsilon"] = float(str(np.float32(values["layer_norm_epsilon"])))
    ends = {f"{name}_token_id": metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    fixed = {"model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": embeddings[0]}
    return GPT2Config.from_dict(values | ends | fixed, source, _REMEDY)


def _tensors(header: Header, file: Path) -> list[StoredTensor]:
    mapped = MappedFile(file, [(0, header.size)])
    ways = mapped.values, mapped.kept_values
    tensors = []
    problems = []
    sizes = {}
    for info in header.tensors:
        try:
            dtype, sizes[info.name] = _type(info)
        except ValueError as error:
            problems.append(str(error))
        else:
            name, size = _canonical_name(info.name), sizes[info.name]
            if exact := EXACT.get(dtype):
                read, kept = (partial(one, exact, info.offset, info.shape) for one in ways)
                tensors.append(StoredTensor(info.name, dtype, info.shape, file, read, name, read_kept=kept))
            else:
                blocks, kept = (partial(_blocks, one, info, size) for one in ways)
                read = partial(_dequantised, blocks, dtype)
                tensors.append(StoredTensor(info.name, dtype, info.shape, file, read, name, True, blocks, size, kept))
    if problems:
        raise CheckpointError(listed(f"{file} cannot be read exactly", problems, _REMEDY))
    check_offsets(file, header, sizes)
    return tensors


def _type(info: TensorInfo) -> tuple[str, int]:
    """Return the name of a tensor's type and its size in bytes; raises ValueError for an unsupported type."""
    if info.type_number in NUMBERS:  # importing the gguf package takes a seventh of a second
        name = NUMBERS[info.type_number]
        return name, _size(info, name, block_length(name), type_size(name))
    import gguf

    try:
        kind = gguf.GGMLQuantizationType(info.type_number)
        block, bytes_ = gguf.GGML_QUANT_SIZES[kind]
        gguf.quants.dequantize(np.zeros((1, bytes_), np.uint8), kind)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{info.name} has the unknown type {info.type_number}") from error
    except NotImplementedError as error:
        raise ValueError(f"{info.name} is {kind.name}, which the gguf package does not dequantise") from error
    return kind.name, _size(info, kind.name, block, bytes_)


def _size(info: TensorInfo, type_: str, block: int, bytes_: int) -> int:
    if (info.shape or (1,))[-1] % block:
        raise ValueError(f"{info.name} {list(info.shape)} is {type_}, but its rows are not a multiple of {block}")
    return elements(info) // block * bytes_


def _canonical_name(name: str) -> str:
    if block := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        layer, part, kind = block.groups()
        return f"transformer.h.{layer}.{_BLOCK_NAMES[part]}.{kind}" if part in _BLOCK_NAMES else name
    return _NAMES.get(name, name)


def _blocks(values: Callable[..., np.ndarray], info: TensorInfo, size: int) -> np.ndarray:
    """Map the blocks of a quantised tensor: [*shape[:-1], row_bytes] of uint8."""
    return values(np.dtype(np.uint8), info.offset, (size,)).reshape(*info.shape[:-1], -1)


def _dequantised(read_blocks: Callable[[], np.ndarray], type_: str) -> np.ndarray:
    """Return the values as float32."""
    return dequantise(read_blocks(), type_)


def _tokenizer(file: Path, metadata: dict[str, Any], vocab_size: int) -> GPT2Tokenizer:
    model, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    if model != "gpt2" or split not in ("gpt-2", "default"):
        raise TokenizerError(
            f"The tokenizer in {file} is {model!r} with the pre-tokenizer {split!r}, not GPT-2's. "
            "Give a folder with the right one: --tokenizer FOLDER."
        )
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata.get("tokenizer.ggml.merges", [])
    types = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    strings = all(isinstance(part, list) and all(isinstance(one, str) for one in part) for part in (tokens, merges))
    if not strings or not isinstance(types, list) or len(types) != len(tokens):
        raise TokenizerError(f"The tokenizer in {file} is damaged. {AGAIN}")
    vocab = {token: id_ for id_, (token, type_) in enumerate(zip(tokens, types, strict=True)) if type_ != _UNUSED}
    pairs = [merge.split(" ", 1) for merge in merges]
    special = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _CONTROL]
    added = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _USER_DEFINED]
    return GPT2Tokenizer.from_vocab(vocab, pairs, vocab_size, f"The tokenizer in {file}", special, added)
