"""Read JSON lines and text files, plain or compressed."""

import hashlib
import io
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from max_gpt2._files import json_text
from max_gpt2.batch.corpus.formats import FileFormat
from max_gpt2.batch.corpus.rows import ColumnNames, Values
from max_gpt2.batch.inputs import decode_text, parse_object, strip_mark
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    import pyarrow

_CHUNK = 1 << 20
#: Metadata of a kept field of JSON lines whose values have several types: each is JSON text.
JSON_TEXT = {b"encoding": b"json"}


class HashedStream(io.RawIOBase):
    """A stream of bytes that counts them and computes their SHA-256."""

    def __init__(self, stream: Any, on_bytes: Callable[[int], None]) -> None:
        super().__init__()
        self._stream, self._on_bytes, self._digest, self.count = stream, on_bytes, hashlib.sha256(), 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; raises OSError."""
        chunk: bytes = self._stream.read(_CHUNK if size < 0 else size)
        self._digest.update(chunk)
        self.count += len(chunk)
        self._on_bytes(len(chunk))
        return chunk

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes that were read, in hexadecimal."""
        return self._digest.hexdigest()


def decompressed(stream: Any, format_: FileFormat) -> Any:
    """Return a stream of the content of a file; reading it raises OSError for damaged or truncated data."""
    if format_.compression is None:
        return stream
    import pyarrow

    source = pyarrow.PythonFile(stream, mode="r") if isinstance(stream, HashedStream) else stream
    return pyarrow.CompressedInputStream(source, format_.compression)


def numbered_lines(stream: Any, format_: FileFormat) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that are not blank, without their ends, with their numbers from 1.

    Raises OSError for damaged or truncated compressed data.
    """
    for number, raw in enumerate(_split(decompressed(stream, format_).read), 1):
        line = strip_mark(number, raw)
        if line.strip():
            yield number, line


def _split(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield lines in time linear in the size, however long a line is."""
    pieces: list[bytes] = []
    while chunk := read(_CHUNK):
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        if others:
            yield b"".join(pieces)
            yield from islice(others, len(others) - 1)
            pieces = [others[-1]]
    if last := b"".join(pieces):
        yield last


class LineCursor:
    """A cursor over the lines of a file."""

    def __init__(self, stream: Any, format_: FileFormat, parse: Callable[[int, bytes], Values]) -> None:
        self.position = 0
        self._stream, self._parse = stream, parse
        self._lines = numbered_lines(stream, format_)

    def can_reach(self, row: int) -> bool:
        """See `Cursor`: lines are only read forward."""
        return row >= self.position

    def move(self, row: int) -> None:
        """See `Cursor`."""
        self.position += sum(1 for _ in islice(self._lines, row - self.position))

    def read(self, count: int) -> Iterator[Values]:
        """See `Cursor`."""
        for number, line in islice(self._lines, count):
            self.position += 1
            yield self._parse(number, line)

    def close(self) -> None:
        """See `Cursor`."""
        self._lines.close()  # type: ignore[attr-defined]
        self._stream.close()


class TextParser:
    """Returns the lines of a text file as rows; the only column that can be kept is that of the text."""

    def __init__(self, columns: ColumnNames) -> None:
        self._keep = columns.keep

    def __call__(self, number: int, line: bytes) -> Values:
        """Return the row of a line, with a problem if it is not UTF-8."""
        try:
            text = decode_text(line.removesuffix(b"\r"), "The line")
        except RequestError as error:
            return Values(number, None, None, dict.fromkeys(self._keep), str(error))
        return Values(number, text, None, dict.fromkeys(self._keep, text))


class JsonParser:
    """Parses JSON lines; `kept` has the types of the kept fields, without which their values stay as they are."""

    def __init__(self, columns: ColumnNames, kept: "pyarrow.Schema | None" = None) -> None:
        self._columns = columns
        self._id = columns.id or "id"
        self._convert = {name: _converter(kept, name) for name in columns.keep}

    def __call__(self, number: int, line: bytes) -> Values:
        """Return the row of a line, with a problem if it is not valid."""
        try:
            fields = parse_object(decode_text(line, "The line"), self._columns.text)
        except RequestError as error:
            return Values(number, None, problem=str(error), kept=dict.fromkeys(self._columns.keep))
        problems: list[str] = []
        text = self._text(fields, problems)
        id_ = self._check_id(fields.get(self._id), problems)
        kept = {name: _encodable(name, convert(fields.get(name)), problems) for name, convert in self._convert.items()}
        problem = problems[0] if problems else None
        return Values(number, text if problem is None else None, id_, kept, problem)

    def _text(self, fields: dict[str, Any], problems: list[str]) -> str | None:
        name = self._columns.text
        if name not in fields:
            has = ", ".join(fields) or "none"
            problems.append(f'The line has no field "{name}". Its fields are {has}.')
            return None
        text = fields[name]
        if not isinstance(text, str):
            found = "null" if text is None else "not a string"
            problems.append(f'The field "{name}" is {found}. Give it a text.')
            return None
        return _encodable(name, text, problems)

    def _check_id(self, id_: object, problems: list[str]) -> str | int | None:
        if id_ is None or (isinstance(id_, int) and not isinstance(id_, bool)):
            return id_
        if isinstance(id_, str):
            return _encodable(self._id, id_, problems)
        problems.append(f'The field "{self._id}" is not a string or an integer.')
        return None


def _encodable(name: str, value: Any, problems: list[str]) -> Any:
    """Return a value, or None and add a problem for a string that UTF-8 cannot encode."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            problems.append(
                f'The field "{name}" has a lone surrogate, U+{ord(value[error.start]):04X}, as its character '
                f"{error.start + 1}, which is not valid Unicode. Remove it."
            )
            return None
    return value


def _converter(kept: "pyarrow.Schema | None", name: str) -> Callable[[Any], Any]:
    """Return the function that converts a JSON value to the type of its column."""
    field = None if kept is None else kept.field(name)
    if field is not None and field.metadata == JSON_TEXT:
        return lambda value: None if value is None else json_text(value)
    if field is not None and str(field.type) == "double":
        return lambda value: None if value is None else float(value)
    return lambda value: value
