"""Parse the header of a GGUF file: its metadata, and an entry for each tensor.

The reader of the `gguf` package trusts the counts in the file, so a wrong count can keep it busy for hours and exhaust
the memory. This parser checks every read against the length of the file.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from max_gpt2.checkpoint.formats.detect import AGAIN
from max_gpt2.errors import CheckpointError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's name, shape (slowest axis first, as in numpy), type number, and byte offset."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int


@dataclass(frozen=True)
class Header:
    """A file's metadata and tensors; offsets are from the start of the file, and `size` is its length in bytes."""

    metadata: dict[str, Any]
    tensors: list[TensorInfo]
    size: int


def read_header(file: Path) -> Header:
    """Read the header; raises CheckpointError when it is damaged."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _Parser(file, content).header()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{file} is truncated or damaged ({error}). {AGAIN}") from error


class _Parser:
    """A parser that checks the remaining length of the file before every read."""

    def __init__(self, file: Path, content: mmap.mmap) -> None:
        self._file = file
        self._content = content
        self._at = 4  # after the magic

    def header(self) -> Header:
        """Parse and return the complete header."""
        version = self._scalar("I")
        if version not in _VERSIONS:
            raise CheckpointError(
                f"{self._file} has GGUF version {version}; supported are {_VERSIONS}, little-endian. Convert it again."
            )
        tensor_count, pairs = self._scalar("Q"), self._scalar("Q")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._string()
            if key in metadata:
                raise self._damaged(f"{key} occurs twice")
            metadata[key] = self._value(self._scalar("I"))
        infos: dict[str, TensorInfo] = {}
        for _ in range(tensor_count):
            info = self._tensor()
            if info.name in infos:
                raise self._damaged(f"{info.name} occurs twice")
            infos[info.name] = info
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {alignment!r}, not a power of two")
        start = -(-self._at // alignment) * alignment
        if bad := [info.name for info in infos.values() if info.offset % alignment]:
            raise self._damaged(f"{bad[0]} does not start at a multiple of {alignment} bytes")
        tensors = [TensorInfo(one.name, one.shape, one.type_number, start + one.offset) for one in infos.values()]
        return Header(metadata, tensors, len(self._content))

    def _damaged(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self._file} is damaged: {problem}. {AGAIN}")

    def _take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) < count:
            raise CheckpointError(
                f"{self._file} is truncated or damaged: it ends at byte {len(self._content):,}. {AGAIN}"
            )
        self._at += count
        return taken

    def _scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))[0]

    def _string(self) -> str:
        return self._take(self._scalar("Q")).decode()

    def _value(self, type_number: int) -> Any:
        if type_number in _SCALARS:
            return self._scalar(_SCALARS[type_number])
        if type_number == _STRING:
            return self._string()
        if type_number == _ARRAY:
            return self._array()
        raise self._damaged(f"it has a value of the unknown type {type_number}")

    def _array(self) -> list[Any]:
        type_number, count = self._scalar("I"), self._scalar("Q")
        if type_number == _STRING:
            return [self._string() for _ in range(count)]
        if type_number not in _SCALARS:
            raise self._damaged(f"it has an array of the unsupported type {type_number}")
        code = _SCALARS[type_number]
        return list(struct.unpack(f"<{count}{code}", self._take(count * struct.calcsize(f"<{code}"))))

    def _tensor(self) -> TensorInfo:
        name, dimensions = self._string(), self._scalar("I")
        if dimensions > _MAX_DIMENSIONS:
            raise self._damaged(f"{name} has {dimensions} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))[::-1]
        return TensorInfo(name, shape, self._scalar("I"), self._scalar("Q"))


def check_offsets(file: Path, header: Header, sizes: dict[str, int]) -> None:
    """Raise CheckpointError if tensors, of `sizes` in bytes, overlap or extend beyond the end of the file."""
    end, before = 0, "the header"
    for info in sorted(header.tensors, key=lambda one: one.offset):
        if info.offset < end:
            raise CheckpointError(f"{file} is damaged: {info.name} starts within {before}. {AGAIN}")
        end, before = info.offset + sizes[info.name], info.name
        if end > header.size:
            raise CheckpointError(
                f"{file} is truncated: {info.name} {list(info.shape)} ends at byte {end:,}, "
                f"the file at {header.size:,}. {AGAIN}"
            )


def elements(info: TensorInfo) -> int:
    """Return the number of elements of a tensor."""
    return prod(info.shape)
