"""Check columns of Arrow, and write tables as Parquet files; needs pyarrow, the extra `corpus`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
