"""Rows of a dataset, the columns to read, and the files that they are in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class ColumnNames:
    """The names of the columns or fields to read.

    Attributes:
        text: The column of the text. A text file has only this column.
        id: The column of the id; None uses the column "id" if there is one.
        keep: Other columns to copy to the output.

    """

    text: str
    id: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputFile:
    """A file of a dataset: its name relative to the dataset, its size, the SHA-256 of its bytes, and its rows."""

    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Values:
    """The selected values of a row of a file, in which it has the number `number`, counted from 1.

    `text` is None if there is a problem, which is a sentence.
    """

    number: int
    text: str | None
    id: str | int | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Row:
    """A row of a dataset.

    Attributes:
        index: The number of the row in the dataset, from 0.
        file: The name of its file.
        number: The number of the row or line in that file, from 1.
        text: The text; None if there is a problem.
        id: The id; None without one.
        kept: The values of the kept columns by name.
        problem: A sentence that tells why there is no text, or None.

    """

    index: int
    file: str
    number: int
    text: str | None
    id: str | int | None
    kept: Mapping[str, Any]
    problem: str | None


class Cursor(Protocol):
    """A position in an open file: the number of rows before it."""

    position: int

    def can_reach(self, row: int) -> bool:
        """Return whether `move` can go to a row, counted from 0, without opening the file again."""
        ...

    def move(self, row: int) -> None:
        """Go to a row, or to the end of the file; raises OSError or ArrowException when that fails."""
        ...

    def read(self, count: int) -> Iterator[Values]:
        """Yield the next `count` rows, or those up to the end; raises OSError or ArrowException."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
