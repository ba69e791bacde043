"""Read texts from Parquet files and write tables as Parquet files; needs pyarrow, the extra `corpus`."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from max_gpt2.batch.inputs import USUAL_COLUMNS, Columns, Line, decode_text
from max_gpt2.errors import MissingExtraError, RequestError

if TYPE_CHECKING:
    import pyarrow

#: Rows of an input that are in memory together, and rows of a table that are converted together.
_ROWS = 256
#: A row group of a table is written when it has this many bytes, which bounds the memory.
_ROW_GROUP_BYTES = 16 << 20
_CHUNK = 1 << 20


def require_pyarrow(path: Path | str) -> None:
    """Raise MissingExtraError, which names the file that needs it, without pyarrow."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{path} needs pyarrow ({error}). Install it: pip install 'max-gpt2[corpus]'"
        ) from error


@dataclass(frozen=True)
class ParquetInput:
    """A Parquet file with a column of texts; its lines are its rows, numbered from 1."""

    path: Path
    text_field: str
    text_column: str
    id_column: str | None
    count: int
    sha256: str

    @classmethod
    def scan(cls, path: Path, text_field: str, columns: Columns = USUAL_COLUMNS) -> "ParquetInput":
        """Read the schema and the hash of a file; raises RequestError if it lacks a column or a row.

        Without a name for it, the column "id" is the id if there is one.
        """
        require_pyarrow(path)
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(path) as file:
                schema, count = file.schema_arrow, file.metadata.num_rows
        except FileNotFoundError as error:
            raise RequestError(f"--input {path} does not exist. Check the path.") from error
        except (OSError, ArrowException) as error:
            raise RequestError(f"--input {path} is not a readable Parquet file ({error}). Check the file.") from error
        text = check_column(path, schema, columns.text or text_field, "--text-column")
        id_ = columns.id or ("id" if "id" in schema.names else None)
        if id_ is not None:
            check_column(path, schema, id_, "--id-column", integers=True)
        if not count:
            raise RequestError(f"--input {path} has no rows. Add a text.")
        digest = hashlib.sha256()
        with path.open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
        return cls(path, text_field, text, id_, count, digest.hexdigest())

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the rows, counted from 1."""
        yield from range(1, self.count + 1)

    def lines(self, after: int = 0) -> Iterator[Line]:
        """Yield the rows after row number `after`; raises RequestError where the file is damaged."""
        import pyarrow
        from pyarrow.parquet import ParquetFile

        number = after
        try:
            with ParquetFile(self.path) as file:
                for text, id_ in islice(self._values(file, after), after - self._skipped(file, after), None):
                    number += 1
                    yield self._line(number, text, id_)
        except (OSError, pyarrow.ArrowException) as error:
            raise RequestError(f"--input {self.path} is damaged after row {number} ({error}).") from error

    def _skipped(self, file: Any, after: int) -> int:
        """Return the number of rows in the row groups that end at or before row `after`."""
        return sum(file.metadata.row_group(index).num_rows for index in range(self._first_group(file, after)))

    def _first_group(self, file: Any, after: int) -> int:
        rows = 0
        for index in range(file.metadata.num_row_groups):
            rows += file.metadata.row_group(index).num_rows
            if rows > after:
                return index
        return file.metadata.num_row_groups

    def _values(self, file: Any, after: int) -> Iterator[tuple[bytes | None, object]]:
        """Yield the text, in UTF-8, and the id of each row from the first row group on that has rows after `after`."""
        import pyarrow

        groups = range(self._first_group(file, after), file.metadata.num_row_groups)
        names = [self.text_column, *([] if self.id_column in (None, self.text_column) else [self.id_column])]
        for batch in file.iter_batches(_ROWS, row_groups=list(groups), columns=names):
            # As bytes: a file may hold text that is not UTF-8, which one row must not hide from the others.
            texts = batch.column(self.text_column).cast(pyarrow.large_binary()).to_pylist()
            ids = [None] * len(texts) if self.id_column is None else batch.column(self.id_column).to_pylist()
            yield from zip(texts, ids, strict=True)

    def _line(self, number: int, text: bytes | None, id_: object) -> Line:
        fields = {} if id_ is None else {"id": id_}
        if text is None:
            return Line(number, fields, f'The column "{self.text_column}" is null. Give it a text.')
        try:
            return Line(number, {self.text_field: decode_text(text, "The text"), **fields})
        except RequestError as error:
            return Line(number, fields, str(error))


def check_column(path: Path | str, schema: "pyarrow.Schema", name: str, option: str, *, integers: bool = False) -> str:
    """Return the name of a column of strings or, if allowed, integers; raises RequestError unless there is one."""
    import pyarrow.types as types

    if schema.names.count(name) != 1:
        has = ", ".join(schema.names) or "none"
        raise RequestError(f'--input {path} has no column "{name}". Its columns are {has}: name one with {option}.')
    found = schema.field(name).type
    plain = found.value_type if types.is_dictionary(found) else found
    if types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain):
        return name
    if integers and types.is_integer(plain):
        return name
    kinds = "strings or integers" if integers else "strings"
    raise RequestError(f'The column "{name}" of --input {path} has {found}, not {kinds}. Choose another: {option}.')


def arrow_schema(columns: Mapping[str, type]) -> "pyarrow.Schema":
    """Return the Arrow schema of columns of int, float, str or, for the most likely tokens, list."""
    import pyarrow

    top = pyarrow.struct({"id": pyarrow.int64(), "text": pyarrow.string(), "logprob": pyarrow.float64()})
    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string(), list: pyarrow.list_(top)}
    return pyarrow.schema({name: types[type_] for name, type_ in columns.items()})


class RowWriter:
    """A writer of a Parquet file that takes rows as dictionaries; `close` completes the file."""

    def __init__(self, target: Any, schema: "pyarrow.Schema", **options: Any) -> None:
        """Begin a file: a path, or a file object for writing bytes. `options` are those of pyarrow's writer."""
        from pyarrow.parquet import ParquetWriter

        self._schema, self._writer = schema, ParquetWriter(target, schema, **options)
        self._rows: list[Mapping[str, Any]] = []
        self._batches: list[pyarrow.RecordBatch] = []
        self._size = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; raises OSError."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS:
            self.convert()

    def convert(self) -> None:
        """Convert the rows that wait, for example because they are large; raises OSError."""
        import pyarrow

        if self._rows:
            self._batches.append(pyarrow.RecordBatch.from_pylist(self._rows, self._schema))
            self._size += self._batches[-1].nbytes
            self._rows = []
        if self._size >= _ROW_GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write the rows that wait and the end of the file; raises OSError."""
        self.convert()
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow

        if self._batches:
            self._writer.write_table(pyarrow.Table.from_batches(self._batches))
            self._batches, self._size = [], 0


def write_parquet(path: Path, columns: Mapping[str, type], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a Parquet file; raises OSError when that fails. `columns` are those of `arrow_schema`."""
    writer = RowWriter(path, arrow_schema(columns))
    try:
        for row in rows:
            writer.write(row)
    finally:
        writer.close()
