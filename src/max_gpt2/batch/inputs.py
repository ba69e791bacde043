"""Input files of text or JSON lines."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from max_gpt2.errors import RequestError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Line:
    """A non-blank input line: its number in the file, counted from 1, and its fields or a problem."""

    number: int
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


class Source(Protocol):
    """An input of numbered lines or rows. Only one of them is in memory at a time."""

    @property
    def count(self) -> int:
        """Return the number of non-blank lines."""
        ...

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the content, in hexadecimal."""
        ...

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the non-blank lines, ascending from 1 or more."""
        ...

    def lines(self, after: int = 0) -> Iterator[Line]:
        """Yield the non-blank lines after line number `after`."""
        ...


@dataclass(frozen=True)
class Columns:
    """The names of the text and of the id in the objects or rows of an input; None is the usual name.

    When one of them is given, the other fields of an object are ignored; otherwise, an unknown field is an error.
    """

    text: str | None = None
    id: str | None = None

    def select(self, fields: dict[str, Any], text_field: str) -> dict[str, Any]:
        """Return the text and the id of an object under their usual names; raises RequestError for a missing one."""
        if self.text is None and self.id is None:
            return fields
        text, id_ = self.text or text_field, self.id or "id"
        for name in (text, self.id):
            if name is not None and name not in fields:
                raise RequestError(f'The line has no field "{name}". Its fields are {", ".join(fields) or "none"}.')
        return {text_field: fields[text], **({"id": fields[id_]} if id_ in fields else {})}


USUAL_COLUMNS = Columns()


@dataclass(frozen=True)
class InputFile:
    """A file of text or JSON lines: the number of its non-blank lines, and the SHA-256 of its content.

    A line of plain text becomes the field `text_field`.
    """

    path: Path
    text_field: str
    count: int
    sha256: str
    columns: Columns = USUAL_COLUMNS

    @classmethod
    def scan(cls, path: Path, text_field: str, columns: Columns = USUAL_COLUMNS) -> "InputFile":
        """Read a file once; raises RequestError when it is not a .jsonl, .ndjson or .txt file, or is blank."""
        if path.suffix.lower() not in (*_JSON_LINES, ".txt"):
            raise RequestError(
                f"--input {path} is neither .jsonl (one JSON object per line) nor .txt (plain text). Rename it."
            )
        if not path.exists():
            raise RequestError(f"--input {path} does not exist. Check the path.")
        if not path.is_file():
            raise RequestError(f"--input {path} is not a regular file. Copy its content into one.")
        if path.suffix.lower() == ".txt" and columns != USUAL_COLUMNS:
            raise RequestError(
                f"--input {path} is plain text, which has no columns. Remove --text-column, --id-column."
            )
        digest, count = hashlib.sha256(), 0
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                digest.update(raw)
                count += bool(strip_mark(number, raw).strip())
        if not count:
            raise RequestError(f"--input {path} has only blank lines. Add a prompt or a text.")
        return cls(path, text_field, count, digest.hexdigest(), columns)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the non-blank lines, counted from 1."""
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if strip_mark(number, raw).strip():
                    yield number

    def lines(self, after: int = 0) -> Iterator[Line]:
        """Yield the non-blank lines after line number `after`."""
        parse = LineParser(self.path.suffix.lower() in _JSON_LINES, self.text_field, self.columns)
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if number > after and (content := strip_mark(number, raw)).strip():
                    yield parse(number, content.removesuffix(b"\n"))


@dataclass(frozen=True)
class LineParser:
    """Parses lines of JSON or of plain text, which becomes the field `text_field`."""

    is_json: bool
    text_field: str
    columns: Columns

    def __call__(self, number: int, content: bytes) -> Line:
        """Return a line without its end, with its problem if it has one."""
        try:
            line = decode_text(content, "The line")
            if self.is_json:
                return Line(number, self.columns.select(parse_object(line, self.text_field), self.text_field))
            return Line(number, {self.text_field: line.removesuffix("\r")})
        except RequestError as error:
            return Line(number, problem=str(error))


def parse_object(line: str, text_field: str) -> dict[str, Any]:
    """Return the fields of a JSON object; raises RequestError, which shows how to write a line with a text."""
    example = f'{{"{text_field}": "..."}}'
    try:
        fields = json.loads(line, object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant)
    except RecursionError as error:
        raise RequestError(f"The line is nested too deeply. Write it as {example}.") from error
    except ValueError as error:
        raise RequestError(f"The line is not JSON ({error}). Write it as {example}.") from error
    if not isinstance(fields, dict):
        raise RequestError(f"The line is not a JSON object. Write it as {example}.")
    return fields


def decode_text(content: bytes, what: str) -> str:
    """Return a text in UTF-8; raises RequestError, which begins with `what`, for other bytes."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{what} is not UTF-8 at byte {error.start + 1}. Save it as UTF-8.") from error


def strip_mark(number: int, raw: bytes) -> bytes:
    """Return the line with this number without a byte order mark, which only the first line can have."""
    return raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("duplicate key")
    return fields


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")
