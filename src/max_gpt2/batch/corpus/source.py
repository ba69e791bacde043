"""Read a dataset line by line, for an output that is one file."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from max_gpt2.batch.corpus.batches import BatchCursor
from max_gpt2.batch.corpus.dataset import Dataset, find_dataset, is_uri
from max_gpt2.batch.corpus.formats import known_format
from max_gpt2.batch.corpus.globs import has_wildcard
from max_gpt2.batch.corpus.lines import numbered_lines
from max_gpt2.batch.corpus.readers import open_batches, reading
from max_gpt2.batch.corpus.rows import ColumnNames, InputFile
from max_gpt2.batch.corpus.scan import scan_dataset
from max_gpt2.batch.inputs import USUAL_COLUMNS, Columns, Line, LineParser, Source
from max_gpt2.batch.inputs import InputFile as PlainFile

_PLAIN = (".jsonl", ".ndjson", ".txt")


def open_source(spec: str, text_field: str, columns: Columns = USUAL_COLUMNS) -> Source:
    """Open an input: a file, a folder or a glob; raises RequestError when it cannot be read.

    A plain file of JSON lines or text needs no pyarrow.
    """
    path = Path(spec)
    is_name = path.exists() or not (has_wildcard(spec) or is_uri(spec))
    if path.suffix.lower() in _PLAIN and is_name and not path.is_dir():
        return PlainFile.scan(path, text_field, columns)
    return DatasetSource.scan(find_dataset(spec), text_field, columns)


@dataclass(frozen=True)
class DatasetSource:
    """The lines and rows of a dataset.

    The number of a line is that in its file if there is only one, and otherwise that of its row over all files. A row
    of a table has its text in the field `text_field`, and its id if it has one.
    """

    dataset: Dataset
    files: tuple[InputFile, ...]
    text_field: str
    columns: Columns
    id_column: str | None

    @classmethod
    def scan(cls, dataset: Dataset, text_field: str, columns: Columns = USUAL_COLUMNS) -> "DatasetSource":
        """Read all files once; raises RequestError, which names the file, if one cannot be read or lacks a column."""
        names = ColumnNames(columns.text or text_field, columns.id)
        scan = scan_dataset(dataset, names, lambda _done, _total: None, check_lines=False)
        return cls(dataset, scan.files, text_field, columns, scan.id)

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(file.rows for file in self.files)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, or of the names and hashes of several."""
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in self.files).encode()).hexdigest()

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the lines, ascending."""
        (file, *others) = self.files
        if others or not known_format(file.name).has_lines:
            yield from range(1, self.count + 1)
            return
        for number, _ in self._numbered(file):
            yield number

    def lines(self, after: int = 0) -> Iterator[Line]:
        """Yield the lines after line number `after`; raises InputError for a file that cannot be read."""
        before = 0
        for file in self.files:
            if len(self.files) == 1 or before + file.rows > after:
                yield from self._lines(file, before, after)
            before += file.rows

    def _lines(self, file: InputFile, before: int, after: int) -> Iterator[Line]:
        """Yield the lines of a file that has `before` rows before it."""
        format_, is_single = known_format(file.name), len(self.files) == 1
        if not format_.has_lines:
            yield from self._rows(file, before, max(after - before, 0))
            return
        parse = LineParser(format_.kind == "json", self.text_field, self.columns)
        for row, (own_number, content) in enumerate(self._numbered(file), before + 1):
            number = own_number if is_single else row
            if number > after:
                yield parse(number, content)

    def _numbered(self, file: InputFile) -> Iterator[tuple[int, bytes]]:
        filesystem, path = self.dataset.filesystem, self.dataset.path(file.name)
        with reading(self.dataset.label(file.name)) as place, filesystem.open_input_stream(path, None) as stream:
            for number, content in numbered_lines(stream, known_format(file.name)):
                place.row = number
                yield number, content

    def _rows(self, file: InputFile, before: int, skip: int) -> Iterator[Line]:
        """Yield the rows of a table after its first `skip`."""
        columns = ColumnNames(self.columns.text or self.text_field, self.id_column)
        with reading(self.dataset.label(file.name)) as place:
            batches = open_batches(self.dataset, file.name, known_format(file.name))
            with closing(BatchCursor(batches, columns)) as cursor:
                cursor.move(skip)
                for values in cursor.read(file.rows - skip):
                    place.row = values.number
                    fields = {} if values.text is None else {self.text_field: values.text}
                    id_ = {} if values.id is None else {"id": values.id}
                    yield Line(before + values.number, fields | id_, values.problem)
