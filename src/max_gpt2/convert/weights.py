"""Weights as transformers saves them: in one safetensors file, Conv1D as `[in, out]`, and nothing but the weights.

The safetensors library writes a file from all of its tensors at once. Here they are written one by one, so that a
model needs no more memory than its largest tensor; the file is the same, byte for byte.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint import LoadPlan
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.checkpoint.values import stored_values
from max_gpt2.convert.folder import write_synced

#: Called with the bytes that are written and with all there will be.
Progress = Callable[[int, int], object]
#: The names of tensors, in the order of a file, with their dtypes and shapes.
Layout = Mapping[str, tuple[str, tuple[int, ...]]]
#: safetensors stores the wider types first, so that all of them are aligned.
_ORDER = ("F32", "BF16", "F16")


def stored_layout(plan: LoadPlan) -> Layout:
    """Return what the file of a checkpoint is going to hold."""
    shapes = canonical_shapes(plan.origin.config)
    names = sorted(plan.read_dtypes.items(), key=lambda item: (_ORDER.index(item[1]), item[0]))
    return {name: (dtype, shapes[name]) for name, dtype in names}


def size(layout: Layout) -> int:
    """Return how many bytes the tensors have."""
    return sum(_bytes(dtype, shape) for dtype, shape in layout.values())


def header(layout: Layout, start: int = 0) -> bytes:
    """Return what stands before the tensors; these start at a multiple of 8 bytes, or `start` bytes after one."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in layout.items():
        end = offset + _bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * ((start - len(text)) % 8)  # the length in front of it has 8 bytes
    return len(text).to_bytes(8, "little") + text


def write_weights(plan: LoadPlan, path: Path, progress: Progress, *, allow_nonfinite: bool = False) -> None:
    """Write the weights of a checkpoint; raises CheckpointError, at the end, when they are damaged, and OSError."""
    layout = stored_layout(plan)

    def chunks() -> Iterator[bytes | memoryview]:
        yield header(layout)
        done, total = 0, size(layout)
        for name, values in stored_values(plan, layout, allow_nonfinite=allow_nonfinite):
            yield np.ascontiguousarray(values.T if plan.is_transposed(name) else values).view(np.uint8).data
            done += values.nbytes
            progress(done, total)

    write_synced(path, chunks())


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return EXACT[dtype].itemsize * prod(shape)
