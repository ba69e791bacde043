"""Read the rows of a dataset by their numbers."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

from max_gpt2.batch.corpus.batches import ArrowBatches, BatchCursor, ParquetBatches
from max_gpt2.batch.corpus.dataset import Dataset, read_errors, reason
from max_gpt2.batch.corpus.formats import FileFormat, known_format
from max_gpt2.batch.corpus.lines import HashedStream, JsonParser, LineCursor, TextParser
from max_gpt2.batch.corpus.rows import ColumnNames, Cursor, InputFile, Row
from max_gpt2.errors import InputError

if TYPE_CHECKING:
    import pyarrow

_CHUNK = 1 << 20

__all__ = ["ColumnNames", "DatasetReader", "InputError", "Row"]


class DatasetReader:
    """Reads rows of a dataset; for one thread.

    It keeps the file of the last row open and goes on in it, so a pass over all rows in several calls reads each file
    once. `kept` has the types of the kept columns, see `Scan`; without it, values of JSON lines stay as they are.
    """

    def __init__(
        self,
        dataset: Dataset,
        files: Sequence[InputFile],
        columns: ColumnNames,
        kept: "pyarrow.Schema | None" = None,
    ) -> None:
        self._dataset, self._files, self._columns, self._kept = dataset, files, columns, kept
        self._starts = [0, *accumulate(file.rows for file in files)]
        #: The files that were checked: what is wrong with each, if anything.
        self._checked: dict[str, InputError | None] = {}
        self._cursor: Cursor | None = None
        self._opened = -1

    def rows(self, first: int, stop: int) -> Iterator[Row]:
        """Yield the rows from index `first` to before `stop`, counted over all files.

        Raises InputError, which names the file and the row, for a file that cannot be read or has changed.
        """
        while first < stop:
            number = bisect_right(self._starts, first) - 1
            end = min(stop, self._starts[number + 1])
            yield from self._read(number, first, end)
            first = end

    def close(self) -> None:
        """Close the open file."""
        cursor, self._cursor, self._opened = self._cursor, None, -1
        if cursor is not None:
            cursor.close()

    def _read(self, number: int, first: int, stop: int) -> Iterator[Row]:
        """Yield rows of one file."""
        file, start = self._files[number], self._starts[number]
        label, index = self._dataset.label(file.name), first
        try:
            with reading(label) as place:
                cursor = self._move(number, first - start)
                place.row = first - start
                for values in cursor.read(stop - first):
                    one = values
                    yield Row(index, file.name, one.number, one.text, one.id, one.kept, one.problem)
                    index += 1
                    place.row = one.number
                if index < stop:
                    raise InputError(f"--input {label} has changed: it has only {index - start} rows. {_REMEDY}")
        except InputError:
            self.close()
            raise

    def _move(self, number: int, row: int) -> Cursor:
        """Return a cursor at a row of a file: the open one if it can get there."""
        if self._cursor is None or self._opened != number or not self._cursor.can_reach(row):
            self.close()
            file = self._files[number]
            self._check(file)
            self._cursor, self._opened = open_cursor(self._dataset, file.name, self._columns, self._kept), number
        if row != self._cursor.position:
            self._cursor.move(row)
        return self._cursor

    def _check(self, file: InputFile) -> None:
        """Raise InputError if a file has changed; it is read the first time only."""
        if file.name not in self._checked:
            self._checked[file.name] = None
            try:
                check_unchanged(self._dataset, file)
            except InputError as error:
                self._checked[file.name] = error
            except BaseException:
                del self._checked[file.name]
                raise
        if found := self._checked[file.name]:
            raise InputError(str(found))


_REMEDY = "Restore it, or choose another --output for the new input."


class _Place:
    """The number of the last row that was read."""

    row = 0


@contextmanager
def reading(label: str) -> Iterator[_Place]:
    """Turn an exception of pyarrow or the system into InputError, which names the file and the row in it."""
    place = _Place()
    try:
        yield place
    except read_errors() as error:
        after = f" after row {place.row}" if place.row else ""
        raise InputError(f"--input {label} cannot be read{after} ({reason(error)}). Check the file.") from error


def check_unchanged(dataset: Dataset, file: InputFile) -> None:
    """Raise InputError if a file has another size or other bytes than those it was planned with."""
    size = dataset.filesystem.get_file_info(dataset.path(file.name)).size
    label = dataset.label(file.name)
    if size is None:
        raise InputError(f"--input {label} does not exist anymore. {_REMEDY}")
    if size != file.bytes:
        raise InputError(f"--input {label} has changed: it had {file.bytes} bytes and has {size} now. {_REMEDY}")
    with dataset.filesystem.open_input_stream(dataset.path(file.name), compression=None) as stream:
        hashed = HashedStream(stream, lambda _: None)
        while hashed.read(_CHUNK):
            pass
    if hashed.sha256 != file.sha256:
        raise InputError(f"--input {label} has changed: its content has another SHA-256. {_REMEDY}")


def open_cursor(
    dataset: Dataset, name: str, columns: ColumnNames, kept: "pyarrow.Schema | None" = None
) -> LineCursor | BatchCursor:
    """Open a file at its first row; raises OSError or ArrowException when that fails."""
    format_ = known_format(name)
    if format_.has_lines:
        stream = dataset.filesystem.open_input_stream(dataset.path(name), compression=None)
        parse = TextParser(columns) if format_.kind == "text" else JsonParser(columns, kept)
        return LineCursor(stream, format_, parse)
    return BatchCursor(open_batches(dataset, name, format_), columns)


def open_batches(dataset: Dataset, name: str, format_: FileFormat) -> ParquetBatches | ArrowBatches:
    """Open a Parquet or Arrow file; raises OSError or ArrowException when that fails."""
    stream = dataset.filesystem.open_input_file(dataset.path(name))
    return ParquetBatches(stream) if format_.kind == "parquet" else ArrowBatches(stream)
