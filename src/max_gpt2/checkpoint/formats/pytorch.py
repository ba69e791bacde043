"""Read PyTorch's pickles (`.bin`, `.pt`): only with the user's permission, and only plain tensors."""

import io
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.checkpoint.formats.source import EXACT, StoredTensor
from max_gpt2.errors import CheckpointError, MissingExtraError, listed

if TYPE_CHECKING:
    import torch
    from torch.types import Storage

#: Offsets in a zip entry's local header: of the name and extra-field lengths, and of the name itself.
_LENGTHS, _LOCAL_HEADER = 26, 30
_HAS_DESCRIPTOR, _DESCRIPTOR = 0x08, b"PK\x07\x08"
_IS_FOLDER = 0x10


def check_zip(path: Path) -> None:
    """Raise BadZipFile unless every entry is uncompressed and follows its local header, as PyTorch writes it."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        ends = [*(entry.header_offset for entry in entries[1:]), archive.start_dir]
        for entry, end in zip(entries, ends, strict=True):
            stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
            if not stored or entry.external_attr & _IS_FOLDER:
                raise zipfile.BadZipFile(f"{entry.filename} is compressed, or a folder")
            _check_offset(file, entry, end)


def _check_offset(file: BinaryIO, entry: zipfile.ZipInfo, end: int) -> None:
    """Raise BadZipFile unless an entry's bytes, and its data descriptor if any, lie between its header and `end`."""
    file.seek(entry.header_offset + _LENGTHS)
    start = entry.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4)))
    stop = start + entry.file_size
    file.seek(max(0, stop - 4))
    before, behind = file.read(4), file.read(4)
    # The descriptor's signature is optional; without it, the checksum comes first.
    described = behind == _DESCRIPTOR or (behind == struct.pack("<I", entry.CRC) and before != _DESCRIPTOR)
    if stop > end or (entry.flag_bits & _HAS_DESCRIPTOR and not described):
        raise zipfile.BadZipFile(f"{entry.filename} is not at the offset that the archive's directory gives")


_NAN = 0xFF  # all bits set is NaN in every float dtype


def load_unzipped(path: Path) -> Any:
    """Return the content of a pickle from before PyTorch 1.6; raises ValueError if it declares too many values."""
    import torch

    with _Bounded(io.FileIO(path)) as file:
        return torch.load(file, map_location=_storages(path.stat().st_size), weights_only=True)


class _Bounded(io.BufferedReader):
    """A file whose reads are limited to its remaining length: Python allocates the requested size before reading."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _storages(left: int) -> "Callable[[Storage, str], Storage]":
    """Return a `map_location` function that checks the total size of all storages before PyTorch fills them."""
    import torch

    def check_storage(storage: "Storage", _: str) -> "Storage":
        nonlocal left
        left -= storage.nbytes()
        if left < 0:
            raise ValueError("it declares more values than it contains")
        # Values that the file does not contain must not expose uninitialised memory.
        torch.empty(0, dtype=torch.uint8).set_(storage).fill_(_NAN)
        return storage

    return check_storage


#: In older versions, a crafted pickle can run code despite `weights_only=True` (CVE-2025-32434, CVE-2026-24747).
SAFE_TORCH = (2, 10)
_INSTALL = "Install it: pip install 'max-gpt2[compare]'"


def load_pickle(path: Path, allow_pickle: bool) -> Any:
    """Return the content of a pickle, with tensors memory-mapped where possible.

    Raises CheckpointError without permission, for a damaged file and for content other than plain data, and
    MissingExtraError without PyTorch.
    """
    if not allow_pickle:
        raise CheckpointError(
            f"{path} is a pickle, a format that can run code when it is read. If you trust its source, add "
            "--allow-pickle (in Python: allow_pickle=True); max-gpt2 then reads plain tensors only."
        )
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"Reading {path} needs PyTorch ({error}). {_INSTALL}") from error
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < SAFE_TORCH:
        raise MissingExtraError(f"PyTorch {torch.__version__} is too old to read a pickle safely. {_INSTALL}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about operations on damaged pickles
            return _load(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains more than plain tensors, or is damaged ({_reason(error)}). It was not loaded, and no "
            "code in it was run. Use a safetensors file of the same model."
        ) from error
    except Exception as error:  # invalid pickles can raise any exception
        raise CheckpointError(f"{path} is truncated or damaged ({_reason(error)}). {AGAIN}") from error


def _load(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return load_unzipped(path)
        check_zip(path)
        if path.suffix != ".safetensors":  # PyTorch selects the reader by this suffix
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def pickled_tensors(state_dict: Mapping[Any, Any], path: Path) -> list[StoredTensor]:
    """List the tensors of a state dict; raises CheckpointError that names every other value."""
    import torch

    problems = [
        f"{name!r} is of type {type(value).__name__}, not a tensor"
        for name, value in state_dict.items()
        if not (isinstance(name, str) and isinstance(value, torch.Tensor))
    ]
    if problems:
        raise CheckpointError(listed(f"{path} does not contain GPT-2 weights", problems, "Use another checkpoint."))
    return [
        StoredTensor(name, _dtype(value), () if value.is_nested else tuple(value.shape), path, partial(_read, value))
        for name, value in state_dict.items()
    ]


def _read(tensor: "torch.Tensor") -> np.ndarray:
    """Return the values, viewed as integers in between: PyTorch cannot convert bfloat16 to numpy."""
    import torch

    integers = torch.int32 if tensor.element_size() == 4 else torch.int16
    return tensor.detach().view(integers).numpy().view(EXACT[_dtype(tensor)])


def _dtype(tensor: "torch.Tensor") -> str:
    """Return safetensors' name of the dtype, or a description of a tensor that is not a plain array."""
    import torch

    plain = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
    name = plain.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"a sparse or nested {name}"
    if tensor.device.type != "cpu":
        return f"a {name} without values"
    # Strides of 0 expand a few stored values to a huge tensor.
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"an expanded {name}"
    return name


def _reason(error: Exception) -> str:
    """Return the relevant sentence of PyTorch's long error messages."""
    text = str(error).split("WeightsUnpickler error: ")[-1].strip()
    return text.splitlines()[0].split(". ")[0] if text else type(error).__name__
