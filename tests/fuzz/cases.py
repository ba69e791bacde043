"""All cases: systematic ones (each field, each boundary) and random ones, drawn by hypothesis."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.case import Case, Edit
from tests.fuzz.fields import Field, boundaries_of, fields_of, headers_of, zip_entries
from tests.fuzz.json_cases import damaged_documents
from tests.fuzz.seeds import Seed

STRUCTURAL, TRUNCATED, RANDOM = "structural", "truncated", "random"
_INTEGERS = (0, 1, 2, 3, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
#: Replacements for an opcode: stop, huge long, bytes and text, memo, tuple, build, reduce, a global.
_OPCODES = {
    "STOP": b".",
    "LONG4 of 2**31-1 bytes": b"\x8b\xff\xff\xff\x7f",
    "BINBYTES8 of 2**62 bytes": b"\x8e" + (2**62).to_bytes(8, "little"),
    "BINUNICODE of 2**32-1 bytes": b"X\xff\xff\xff\xff",
    "LONG_BINPUT 2**32-1": b"r\xff\xff\xff\xff",
    "LONG_BINGET 2**32-1": b"j\xff\xff\xff\xff",
    "BININT 2**31-1": b"J\xff\xff\xff\x7f",
    "BININT -1": b"J\xff\xff\xff\xff",
    "LONG1 2**64": b"\x8a\x09" + (2**64).to_bytes(9, "little"),
    "BINFLOAT NaN": b"G\x7f\xf8" + bytes(6),
    "NONE": b"N",
    "EMPTY_DICT": b"}",
    "MARK": b"(",
    "TUPLE": b"t",
    "REDUCE": b"R",
    "BUILD": b"b",
    "POP": b"0",
    "DUP": b"2",
    "GLOBAL os system": b"cos\nsystem\n",
    "GLOBAL torch ones": b"ctorch\nones\n",
    "an unknown opcode": b"\xff",
    "nothing": b"",
}


def structural(seed: Seed) -> Iterator[Case]:
    """Yield a case for each header field and each value that replaces it."""
    for file in seed.files:
        content = seed.content(file)
        if file.endswith(".json"):
            for description, new in damaged_documents(content):
                yield Case(seed.name, file, STRUCTURAL, description, (Edit(0, len(content), new),))
        if file.endswith(".safetensors"):
            stop = 8 + int.from_bytes(content[:8], "little")
            for description, new in damaged_documents(content[8:stop]):
                header = len(new).to_bytes(8, "little") + new
                yield Case(seed.name, file, STRUCTURAL, description, (Edit(0, stop, header),))
        if not file.endswith((".json", ".txt")):
            for field in fields_of(seed.folder / file):
                padded = content.startswith(b"PK")
                for description, edit in _of_opcode(field, padded) if field.opcode else _of_field(field, content):
                    yield Case(seed.name, file, STRUCTURAL, f"{field.name} is {description}", (edit,))


def _of_field(field: Field, content: bytes) -> Iterator[tuple[str, Edit]]:
    width = field.stop - field.start
    if width in (1, 2, 4, 8):
        for number in _INTEGERS:
            if number < 256**width:
                yield str(number), Edit(field.start, field.stop, number.to_bytes(width, "little"))
        original = int.from_bytes(content[field.start : field.stop], "little")
        for change in (-1, 1):
            number = (original + change) % 256**width
            yield f"{number} ({change:+})", Edit(field.start, field.stop, number.to_bytes(width, "little"))
    else:
        for byte in (0x00, 0xFF, 0x20):
            yield f"{width} bytes {byte}", Edit(field.start, field.stop, bytes([byte]) * width)


def _of_opcode(field: Field, padded: bool) -> Iterator[tuple[str, Edit]]:
    """Yield replacements of an opcode, padded with MARK inside a zip file, where the length must not change."""
    width = field.stop - field.start
    for name, new in _OPCODES.items():
        if not padded or len(new) <= width:
            yield name, Edit(field.start, field.stop, new + b"(" * (width - len(new)) * padded)
            if 0 < len(new) < width:
                yield f"{name} and the old argument", Edit(field.start, field.start + len(new), new)


def truncated(seed: Seed) -> Iterator[Case]:
    """Yield a case for each boundary, and for the bytes before and after it."""
    for file in seed.files:
        length = len(seed.content(file))
        positions = {position + one for position in boundaries_of(seed.folder / file) for one in (-1, 0, 1)}
        for position in sorted(positions & set(range(length))):
            yield Case(seed.name, file, TRUNCATED, f"cut off at {position} of {length}", (Edit(position, length),))


def leaves_weights(case: Case, path: Path) -> bool:
    """Return whether the checkpoint, if it still loads, must have its original weights.

    This holds if no byte of a weights file changes, if only its end is cut off, and if only the zip structure around
    the tensors is damaged.
    """
    if case.kind == TRUNCATED or case.file.endswith((".json", ".txt")):
        return True
    inside = zip_entries(path)
    return bool(inside) and all(
        len(edit.new) == edit.stop - edit.start
        and not any(edit.start < stop and start < edit.stop for start, stop in inside)
        for edit in case.edits
    )


def random_cases(seeds: Iterable[Seed]) -> st.SearchStrategy[Case]:
    """Draw cases of one to four edits each, half of them in headers."""
    files = [(seed, file) for seed in seeds for file in seed.files]
    return st.one_of([_random(seed, file) for seed, file in files])


def _random(seed: Seed, file: str) -> st.SearchStrategy[Case]:
    content = seed.content(file)
    anywhere = st.integers(0, len(content) - 1)
    in_headers = [st.integers(start, stop - 1) for start, stop in headers_of(seed.folder / file)]
    positions = st.one_of(anywhere, *in_headers)
    lengths = st.one_of(st.integers(1, 16), st.integers(1, len(content)))

    def flip(position: int, mask: int) -> list[Edit]:
        return [Edit(position, position + 1, bytes([content[position] ^ mask]))]

    def remove(position: int, length: int) -> list[Edit]:
        return [Edit(position, position + length)]

    def overwrite(position: int, new: bytes) -> list[Edit]:
        return [Edit(position, position + len(new), new)]

    def duplicate(source: int, position: int, length: int) -> list[Edit]:
        return [Edit(position, position, content[source : source + length])]

    def copy(source: int, position: int, length: int) -> list[Edit]:
        return overwrite(position, content[source : source + length])

    def swap(source: int, position: int, length: int) -> list[Edit]:
        return copy(source, position, length) + copy(position, source, length)

    def insert(position: int, new: bytes) -> list[Edit]:
        return [Edit(position, position, new)]

    numbers = st.sampled_from([number.to_bytes(8, "little")[:width] for number in _INTEGERS for width in (4, 8)])
    new = st.one_of(st.binary(min_size=1, max_size=16), numbers)
    edits = st.one_of(
        st.builds(flip, positions, st.one_of(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]), st.integers(1, 255))),
        st.builds(overwrite, positions, new),
        st.builds(insert, positions, new),
        st.builds(remove, positions, lengths),
        st.builds(duplicate, positions, positions, lengths),
        st.builds(copy, positions, positions, lengths),
        st.builds(swap, positions, positions, lengths),
    )

    def case(parts: list[list[Edit]]) -> Case:
        flat = tuple(edit for part in parts for edit in part)
        return Case(seed.name, file, RANDOM, f"{len(flat)} edits", flat)

    return st.builds(case, st.lists(edits, min_size=1, max_size=4))
