"""Read Parquet and Arrow IPC files, a few rows at a time."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from max_gpt2.batch.corpus.rows import ColumnNames, Values
from max_gpt2.batch.corpus.values import python_values, text_value, unless_problem

if TYPE_CHECKING:
    import pyarrow

#: The most rows, and about the most bytes, that are converted together.
_ROWS = 256
_BYTES = 4 << 20
#: A column chunk of Parquet is read in pieces of this size, not as a whole.
_BUFFER = 1 << 20
_FILE_MAGIC = b"ARROW1"


class ParquetBatches:
    """The record batches of a Parquet file, from any row group on; `rows` is their number of rows."""

    def __init__(self, stream: Any) -> None:
        from pyarrow.parquet import ParquetFile

        self._file = ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
        self.schema: pyarrow.Schema = self._file.schema_arrow
        metadata = self._file.metadata
        self.starts = [0]
        for group in range(metadata.num_row_groups):
            self.starts.append(self.starts[-1] + metadata.row_group(group).num_rows)
        self.rows: int | None = self.starts[-1]

    def group_of(self, row: int) -> tuple[int, int]:
        """Return the row group of a row, and the number of the row after its last one."""
        group = bisect_right(self.starts, row) - 1
        return group, self.starts[min(group + 1, len(self.starts) - 1)]

    def read(self, columns: Sequence[str], row: int = 0) -> "Iterator[tuple[int, pyarrow.RecordBatch]]":
        """Yield record batches from the row group of a row on, each with the number of its first row."""
        first, _ = self.group_of(row)
        for group in range(first, len(self.starts) - 1):
            start = self.starts[group]
            for batch in self._file.iter_batches(self._batch_rows(group), [group], columns=list(columns)):
                yield start, batch
                start += batch.num_rows

    def _batch_rows(self, group: int) -> int:
        """Return the number of rows of a batch: fewer if the rows of a row group are long."""
        # Not from the metadata of its columns: pyarrow 26 ends the process where they are damaged.
        metadata = self._file.metadata.row_group(group)
        return max(1, min(_ROWS, _BYTES * metadata.num_rows // max(metadata.total_byte_size, 1)))

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)


class ArrowBatches:
    """The record batches of an Arrow IPC stream or file, in order; `rows` is None, since it is not known before."""

    def __init__(self, stream: Any) -> None:
        import pyarrow

        self._stream = stream
        magic = stream.read(len(_FILE_MAGIC))
        stream.seek(0)
        self._reader: Any
        if magic == _FILE_MAGIC:
            self._reader = pyarrow.ipc.open_file(stream)
        else:
            self._reader = pyarrow.ipc.open_stream(stream)
        self._is_file = magic == _FILE_MAGIC
        self.rows: int | None = None
        self.schema: pyarrow.Schema = self._reader.schema

    def read(self, columns: Sequence[str], row: int = 0) -> "Iterator[tuple[int, pyarrow.RecordBatch]]":
        """Yield the record batches from the beginning, each with the number of its first row."""
        start = 0
        batches = map(self._reader.get_batch, range(self._reader.num_record_batches)) if self._is_file else self._reader
        for batch in batches:
            chosen = batch.select(list(columns))
            for column in chosen.columns:
                _validate(column)
            yield start, chosen
            start += batch.num_rows

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _validate(array: "pyarrow.Array") -> None:
    """Raise ArrowInvalid for offsets and indices out of range, which would end the process when they are used."""
    import pyarrow

    try:
        array.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        if "UTF8" not in str(error):  # a problem of one row, found when the row is converted
            raise


class BatchCursor:
    """A cursor over the rows of a Parquet or Arrow file; it converts one slice of a batch at a time."""

    def __init__(self, batches: ParquetBatches | ArrowBatches, columns: ColumnNames) -> None:
        self.position = 0
        self._batches, self._columns = batches, columns
        self._id = columns.id if columns.id in batches.schema.names else None
        self._others = {one for one in (self._id, *columns.keep) if one is not None}
        #: The rows from `_start` to before `_end`: a slice of a batch, and its values once they are needed.
        self._start = self._end = 0
        self._slice: Any = None
        self._values: list[Values] = []
        self._slices = self._read(0)

    def can_reach(self, row: int) -> bool:
        """See `Cursor`: a Parquet file is read from any row group on."""
        return row >= self.position or isinstance(self._batches, ParquetBatches)

    def move(self, row: int) -> None:
        """See `Cursor`."""
        if isinstance(self._batches, ParquetBatches):
            _, end = self._batches.group_of(max(self._end - 1, 0))
            if not self._start <= row < end:
                self._start = self._end = 0
                self._slices = self._read(row)
        self.position = row

    def read(self, count: int) -> Iterator[Values]:
        """See `Cursor`."""
        for _ in range(count):
            while self._end <= self.position:
                if (found := next(self._slices, None)) is None:
                    return
                self._start, self._slice = found
                self._end, self._values = self._start + self._slice.num_rows, []
            if not self._values:
                self._values = list(self._convert(self._start, self._slice))
            values = self._values[self.position - self._start]
            self.position += 1
            yield values

    def close(self) -> None:
        """See `Cursor`."""
        self._batches.close()

    def _read(self, row: int) -> "Iterator[tuple[int, pyarrow.RecordBatch]]":
        for start, batch in self._batches.read([self._columns.text, *self._others - {self._columns.text}], row):
            size = max(1, min(_ROWS, _BYTES * batch.num_rows // max(batch.nbytes, 1)))
            for offset in range(0, batch.num_rows, size):
                yield start + offset, batch.slice(offset, size)

    def _convert(self, start: int, batch: "pyarrow.RecordBatch") -> Iterator[Values]:
        import pyarrow

        # As bytes: a file may hold text that is not UTF-8, which one row must not hide from the others.
        texts = batch.column(self._columns.text).cast(pyarrow.large_binary()).to_pylist()
        others = {name: python_values(name, batch.column(name)) for name in self._others}
        for number in range(batch.num_rows):
            problems: list[str] = []
            text = text_value(self._columns.text, texts[number], problems)
            row = {name: unless_problem(values[number], problems) for name, values in others.items()}
            id_ = None if self._id is None else row[self._id]
            kept = {name: row[name] for name in self._columns.keep}
            problem = problems[0] if problems else None
            yield Values(start + number + 1, text if problem is None else None, id_, kept, problem)
