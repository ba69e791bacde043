"""A safetensors file: what it holds, and reading one tensor of it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.checkpoint.formats.mapped import map_values
from max_gpt2.checkpoint.formats.source import EXACT, StoredTensor
from max_gpt2.errors import CheckpointError

#: The safetensors library's own limit.
LARGEST_HEADER = 100_000_000


def safetensors_tensors(path: Path) -> list[StoredTensor]:
    """List what a safetensors file holds, without reading it; raises CheckpointError."""
    start, header = _header(path)
    try:
        with safe_open(path, framework="numpy") as handle:  # the library checks every entry, and the file's length
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118  (it is no dict)
            kinds = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}). {AGAIN}") from error
    tensors = []
    for name, (dtype, shape) in kinds.items():
        offset = start + header[name]["data_offsets"][0]
        tensors.append(StoredTensor(name, dtype, shape, path, partial(_read, path, dtype, offset, shape)))
    return tensors


def _read(path: Path, dtype: str, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    return map_values(path, EXACT[dtype], offset, shape)


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return where the values start, and the header.

    Names that are there twice are refused: the library takes one of the two tensors and says nothing.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > LARGEST_HEADER:
            raise CheckpointError(f"{path} is damaged: its header would be {size:,} bytes, over 100 MB. {AGAIN}")
        header = file.read(size)
    try:
        return 8 + size, json.loads(header.decode("utf-8"), object_pairs_hook=partial(_without_duplicates, path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is cut off or damaged (its header is not JSON in UTF-8: {error}). {AGAIN}"
        ) from error


def _without_duplicates(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"{path} has {twice!r} twice in its header. Take the checkpoint from another source.")
    return seen
