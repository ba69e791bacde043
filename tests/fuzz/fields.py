"""The positions of header fields in checkpoint files, from gguf, zipfile, pickletools and the description of llm.c."""

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np

#: The name and the widths of the fixed fields of each record of a zip file, by its signature.
_ZIP_ENTRIES = {
    b"PK\x03\x04": ("local entry", (4, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2)),
    b"PK\x01\x02": ("central entry", (4, 2, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2, 2, 2, 2, 4, 4)),
    b"PK\x06\x06": ("zip64 end", (4, 8, 2, 2, 4, 4, 8, 8, 8, 8)),
    b"PK\x06\x07": ("zip64 locator", (4, 4, 8, 4)),
    b"PK\x05\x06": ("end", (4, 2, 2, 2, 2, 4, 4, 2)),
}


@dataclass(frozen=True)
class Field:
    """Bytes with one meaning; `opcode` marks an opcode of a pickle with its argument."""

    start: int
    stop: int
    name: str
    opcode: bool = False


def fields_of(path: Path) -> list[Field]:
    """Return the header fields of a binary file, except those of JSON."""
    content = path.read_bytes()
    if path.suffix == ".gguf":
        return list(_gguf(path))
    if path.suffix == ".safetensors":
        return [Field(0, 8, "length of the header")]
    if content.startswith(b"PK"):
        return [*_zip(content), *_of_ends(_zipped_opcodes(path))]
    if content.startswith(b"\x80"):
        return _of_ends(list(_opcodes(content, 0)))
    return [Field(4 * number, 4 * number + 4, f"number {number}") for number in range(9)]


def boundaries_of(path: Path) -> list[int]:
    """Return the offsets at which fields, tokens of JSON and tensors begin and end."""
    content = path.read_bytes()
    found = {0, len(content)}
    if path.suffix in {".json", ".txt"}:
        return sorted(found | set(_some([match.start() for match in re.finditer(rb'[\[\]{},:"\n]', content)], 60)))
    fields = fields_of(path)
    found |= {position for field in _some(fields, 150) for position in (field.start, field.stop)}
    if path.suffix == ".safetensors":
        start = 8 + int.from_bytes(content[:8], "little")
        found |= set(_some([match.start() for match in re.finditer(rb'[\[\]{},:"]', content[:start])], 60)) | {start}
        found |= {start + int(number) for number in re.findall(rb'data_offsets":\[\d+,(\d+)', content[:start])}
    elif path.suffix == ".gguf":
        found |= {int(tensor.data_offset) for tensor in gguf.GGUFReader(path).tensors}
    elif content.startswith(b"PK"):
        found |= {match.start() for match in re.finditer(rb"PK\x03\x04", content)}
    else:
        found |= set(range(1024, len(content), max(1024, len(content) // 40)))
    return sorted(found)


def headers_of(path: Path) -> list[tuple[int, int]]:
    """Return the ranges of a file that describe the rest of it."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return [(0, 8 + int.from_bytes(content[:8], "little"))]
    if path.suffix in {".json", ".txt"}:
        return [(0, len(content))]
    fields = fields_of(path)
    ends = [field for field in fields if not field.opcode and field.start > len(content) // 2]
    starts = [field for field in fields if field not in ends]
    return [(part[0].start, part[-1].stop) for part in (starts, ends) if part]


@cache
def zip_entries(path: Path) -> list[tuple[int, int]]:
    """Return the byte range of each entry of a zip file, in their order; nothing for other files."""
    if not zipfile.is_zipfile(path):
        return []
    content = path.read_bytes()
    positions = []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name, extra = struct.unpack("<HH", content[entry.header_offset + 26 : entry.header_offset + 30])
            start = entry.header_offset + 30 + name + extra
            positions.append((start, start + entry.file_size))
    return positions


def _zipped_opcodes(path: Path) -> list[Field]:
    start, stop = zip_entries(path)[0]
    return list(_opcodes(path.read_bytes()[start:stop], start))


def _opcodes(content: bytes, start: int) -> Iterator[Field]:
    """Yield the opcodes of consecutive pickles; numbers follow the last one."""
    stream = io.BytesIO(content)
    while content[stream.tell() : stream.tell() + 1] == b"\x80":
        found = [(name.name, position or 0) for name, _, position in pickletools.genops(stream)]
        ends = [position for _, position in found[1:]] + [stream.tell()]
        for (name, position), end in zip(found, ends, strict=True):
            yield Field(start + position, start + end, f"opcode {name}", opcode=True)


def _zip(content: bytes) -> Iterator[Field]:
    seen: dict[str, int] = {}
    for match in re.finditer(rb"PK(\x03\x04|\x01\x02|\x06\x06|\x06\x07|\x05\x06)", content):
        name, widths = _ZIP_ENTRIES[match.group()]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 2:  # all others are alike
            continue
        start = match.start()
        for number, width in enumerate(widths):
            if start + width <= len(content):
                yield Field(start, start + width, f"{name} {seen[name]}, field {number}")
            start += width


def _gguf(path: Path) -> Iterator[Field]:
    reader = gguf.GGUFReader(path)
    yield Field(0, 4, "magic")
    tensors = [tensor.field for tensor in reader.tensors]
    for field in [*reader.fields.values(), *_some(tensors, 4)]:
        yield from _some(list(_parts(field.offset, field.name, field.parts)), 12)


def _parts(start: int, name: str, parts: Iterable[np.ndarray]) -> Iterator[Field]:
    for number, part in enumerate(parts):
        # The dimensions of a tensor are one part with several numbers.
        width = part.itemsize if part.itemsize > 1 else max(1, part.nbytes)
        for position in range(0, part.nbytes, width):
            yield Field(start + position, start + position + width, f"{name}, part {number}")
        start += part.nbytes


def _some(values: list[Any], most: int) -> list[Any]:
    """Return about `most` values at equal distances, including the first and the last ones."""
    if len(values) <= most:
        return values
    chosen = {round(position * (len(values) - 1) / (most - 1)) for position in range(most)} | {1, 2}
    return [values[position] for position in sorted(chosen)]


def _of_ends(opcodes: list[Field]) -> list[Field]:
    """Return the first and the last opcodes; those between repeat for each tensor."""
    return opcodes if len(opcodes) < 80 else opcodes[:60] + opcodes[-20:]
