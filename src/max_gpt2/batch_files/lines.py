"""A file with a text a line: JSON objects (.jsonl, .ndjson), or plain text (.txt)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from max_gpt2.errors import RequestError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Line:
    """One line that is not blank: its number in the file, and its fields or else what is wrong with it."""

    number: int
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class InputFile:
    """A file of lines: which of them are not blank, and the hash of all its bytes.

    A line of plain text becomes the field `text_field`.
    """

    path: Path
    text_field: str
    numbers: list[int]
    sha256: str

    @classmethod
    def look_at(cls, path: Path, text_field: str) -> "InputFile":
        """Read a file once; raises RequestError when it is no such file, or has no lines."""
        if path.suffix.lower() not in (*_JSON_LINES, ".txt"):
            raise RequestError(
                f"--input {path} is neither .jsonl (a JSON object a line) nor .txt (a text a line). Rename it."
            )
        if not path.exists():
            raise RequestError(f"There is no file {path} for --input. Give one that exists.")
        if not path.is_file():
            raise RequestError(f"--input {path} is not an ordinary file, which can be read again. Write it into one.")
        digest, numbers = hashlib.sha256(), []
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                digest.update(raw)
                if _content(number, raw).strip():
                    numbers.append(number)
        if not numbers:
            raise RequestError(f"--input {path} has no lines but blank ones. Give one with a text a line.")
        return cls(path, text_field, numbers, digest.hexdigest())

    def lines(self, after: int = 0) -> Iterator[Line]:
        """Yield the lines that are not blank, from the one after number `after` on."""
        parse = self._parse_json if self.path.suffix.lower() in _JSON_LINES else self._parse_text
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if number <= after or not (content := _content(number, raw)).strip():
                    continue
                try:
                    yield Line(number, parse(content.decode()))
                except UnicodeDecodeError as error:
                    yield Line(number, problem=f"It is not UTF-8 at byte {error.start + 1}. Save the file as UTF-8.")
                except RequestError as error:
                    yield Line(number, problem=str(error))

    def _parse_text(self, line: str) -> dict[str, Any]:
        return {self.text_field: line.removesuffix("\n").removesuffix("\r")}

    def _parse_json(self, line: str) -> dict[str, Any]:
        example = f'{{"{self.text_field}": "..."}}'
        try:
            fields = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
        except RecursionError as error:
            raise RequestError(f"It is nested too deep. Write it as {example}.") from error
        except ValueError as error:
            raise RequestError(f"It is not JSON ({error}). Write it as {example}.") from error
        if not isinstance(fields, dict):
            raise RequestError(f"It is JSON, but not an object. Write it as {example}.")
        return fields


def _content(number: int, raw: bytes) -> bytes:
    return raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name is there twice")
    return fields


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
