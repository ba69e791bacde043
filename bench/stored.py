"""Checkpoints whose weights are stored in half precision or quantized, and their implementations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.implementation import Implementation
from bench.measures import start
from bench.page import LLAMA_CPP, OURS, REFERENCE, typed
from max_gpt2.checkpoint import LoadOptions
from max_gpt2.checkpoint.gguf_convert import convert_to_gguf
from max_gpt2.checkpoint.load import inspect_checkpoint
from max_gpt2.config import SIZES, GPT2Config
from tools.make_checkpoint import write_checkpoint

#: The types of safetensors files, and those of GGUF files.
HALF, QUANTIZED = ("F16", "BF16"), ("Q8_0", "Q4_0")
#: The types that llama.cpp is measured with, besides F32.
LLAMA_CPP_TYPES = ("F16", *QUANTIZED)
#: A model with almost no weights: its memory is that of the process itself.
EMPTY = replace(SIZES["gpt2"], n_layer=1, n_head=1, n_embd=8)


def write_gguf(folder: Path, type_: str) -> Path:
    """Convert a checkpoint to a GGUF file beside its folder, unless the file exists; return its path."""
    path = folder.with_name(f"{folder.name}-{type_}.gguf")
    if not path.exists():
        convert_to_gguf(folder, path, type_.lower())
    return path


def ours(config: GPT2Config, folder: Path) -> list[Implementation]:
    """Return max-gpt2 with each type: safetensors in half precision, and the GGUF files of the checkpoint `folder`."""
    found = []
    for type_ in HALF:
        half = folder.with_name(f"{folder.name}-{type_}")
        write_checkpoint(config, half, dtype=type_)
        found.append(Implementation(typed(OURS, type_), "ours", half))
    return [*found, *(Implementation(typed(OURS, type_), "ours", write_gguf(folder, type_)) for type_ in QUANTIZED)]


def llama_cpp(float32: Implementation) -> list[Implementation]:
    """Return llama.cpp with GGUF files of each type, given its implementation in float32."""
    return [
        replace(float32, name=typed(LLAMA_CPP, type_), folder=write_gguf(float32.folder, type_))
        for type_ in LLAMA_CPP_TYPES
    ]


def stored_bytes(compared: Sequence[Implementation]) -> dict[str, int]:
    """Return the bytes of the weights of each implementation in the types that its file stores."""
    options = LoadOptions(weights="auto")
    return {one.name: inspect_checkpoint(one.folder, options)[2].memory_bytes for one in compared}


def base_memory(compared: Sequence[Implementation], home: Path) -> dict[str, float]:
    """Return the peak memory in MiB of each implementation with an empty model, which is written into `home`.

    Peers that read a converted checkpoint have no such figure, except for llama.cpp.
    """
    folder = home / "empty"
    write_checkpoint(EMPTY, folder)
    paths = {OURS: folder, REFERENCE: folder} | {one.name: one.folder for one in ours(EMPTY, folder)}
    paths |= {typed(LLAMA_CPP, type_): write_gguf(folder, type_) for type_ in LLAMA_CPP_TYPES}
    paths[LLAMA_CPP] = write_gguf(folder, "F32")
    return {one.name: start(replace(one, folder=paths[one.name]))[1] for one in compared if one.name in paths}
