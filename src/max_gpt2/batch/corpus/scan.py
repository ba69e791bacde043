"""Read an input once before a run: its hashes, its numbers of rows, and the types of the columns to keep."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from max_gpt2.batch.corpus.dataset import Dataset, without_credentials
from max_gpt2.batch.corpus.formats import FileFormat, known_format
from max_gpt2.batch.corpus.lines import JSON_TEXT, HashedStream, decompressed, numbered_lines
from max_gpt2.batch.corpus.readers import open_batches, reading
from max_gpt2.batch.corpus.rows import ColumnNames, InputFile
from max_gpt2.batch.inputs import parse_object
from max_gpt2.batch.parquet import check_column
from max_gpt2.errors import InputError, RequestError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["InputFile", "Scan", "scan_dataset"]

_CHUNK = 1 << 20
_START = 4096
_BLANK = b" \t\r\n\xef\xbb\xbf"
#: Integers up to this size are exact in float64.
_EXACT = 1 << 53
_INT64 = 1 << 63


@dataclass(frozen=True)
class Scan:
    """The content of a dataset.

    Attributes:
        files: The files, in order.
        id: The name of the column of ids; None if there is none.
        kept: The types of the kept columns.

    """

    files: tuple[InputFile, ...]
    id: str | None
    kept: "pyarrow.Schema"


def scan_dataset(
    dataset: Dataset, columns: ColumnNames, progress: Callable[[int, int], None], *, check_lines: bool = True
) -> Scan:
    """Read all files once; call `progress` with the bytes that are read and the total.

    Raises RequestError, which names the file, if one cannot be read, lacks a column, or has another type for a kept
    column than the others, and if there is no row. With `check_lines`, a field that no JSON line has is an error too.
    """
    import pyarrow

    scanner = _Scanner(dataset, columns, progress)
    files = tuple(map(scanner.scan, dataset.names))
    if not any(file.rows for file in files):
        raise RequestError(f"--input {without_credentials(dataset.spec)} has no rows. Add a text.")
    if check_lines:
        scanner.check_fields()
    kept = pyarrow.schema([scanner.kept_field(name) for name in dict.fromkeys(columns.keep)])
    return Scan(files, (columns.id or "id") if scanner.has_id else None, kept)


class _Scanner:
    """Collects the facts about all files."""

    def __init__(self, dataset: Dataset, columns: ColumnNames, progress: Callable[[int, int], None]) -> None:
        self.has_id = False
        self._dataset, self._columns, self._progress = dataset, columns, progress
        infos = dataset.filesystem.get_file_info([dataset.path(name) for name in dataset.names])
        self._total, self._done = sum(info.size or 0 for info in infos), 0.0
        #: The fields of JSON lines that no line had so far, and the fields of the first line.
        self._missing = {columns.text, *columns.keep, *({columns.id} if columns.id else ())}
        self._first_line: tuple[str, list[str]] | None = None
        self._json = {name: _JsonType() for name in columns.keep}
        self._fields: dict[str, tuple[str, pyarrow.Field]] = {}

    def scan(self, name: str) -> InputFile:
        """Read one file."""
        format_ = known_format(name)
        label = self._dataset.label(name)
        if format_.kind == "text":
            self._see_text(label)
        with reading(label) as place:
            if format_.kind == "json":
                self._check_start(name, label, format_)
            with self._open(name) as stream:
                # Tables are read twice: their bytes for the hash, and their columns.
                share = 1 if format_.has_lines else 2
                hashed = HashedStream(stream, lambda count: self._advance(count / share))
                rows = 0
                if format_.has_lines:
                    for number, line in numbered_lines(hashed, format_):
                        rows, place.row = rows + 1, number
                        if format_.kind == "json":
                            self._see_line(label, rows, line)
                while hashed.read(_CHUNK):
                    pass
            if format_.compression and not hashed.count:
                raise InputError(f"--input {label} is empty, so it is not a compressed file. Check the file.")
            if not format_.has_lines:
                rows = self._scan_batches(name, label, format_, hashed.count / 2)
        return InputFile(name, hashed.count, hashed.sha256, rows)

    def _open(self, name: str) -> Any:
        return self._dataset.filesystem.open_input_stream(self._dataset.path(name), compression=None)

    def _check_start(self, name: str, label: str, format_: FileFormat) -> None:
        """Raise RequestError for a .json file that is one value, such as an array, and not JSON lines.

        Only its start is read: such a file may be a single line.
        """
        if ".json" not in (Path(name).suffix.lower(), Path(Path(name).stem).suffix.lower()):
            return
        with self._open(name) as stream:
            start = decompressed(stream, format_).read(_START).lstrip(_BLANK)
        if start.startswith(b"[") or start.partition(b"\n")[0].strip() == b"{":
            kind = "an array" if start.startswith(b"[") else "an object over several lines"
            raise RequestError(
                f"--input {label} is {kind}, not JSON lines. Write one object per line, for example with jq -c '.[]'."
            )

    def _advance(self, count: float) -> None:
        self._done += count
        self._progress(round(self._done), self._total)

    def _see_text(self, label: str) -> None:
        """Note the columns of a text file, which has no other column than the text."""
        import pyarrow

        text, id_, keep = self._columns.text, self._columns.id, self._columns.keep
        if id_ is not None or any(name != text for name in keep):
            raise RequestError(
                f'--input {label} is plain text, with "{text}" as its only column. Remove --id-column and other '
                "names of --keep-column."
            )
        if text in keep:
            self._agree(label, pyarrow.field(text, pyarrow.string()))

    def _see_line(self, label: str, number: int, line: bytes) -> None:
        """Note the fields of a line; an invalid one becomes a row with a problem."""
        looks_for_id = not self.has_id and (self._columns.id or "id").encode() in line
        if not (self._missing or self._json or looks_for_id):
            return
        try:
            fields = parse_object(line.decode(), self._columns.text)
        except (ValueError, RequestError):
            return
        if self._first_line is None:
            self._first_line = (label, list(fields))
        self._missing.difference_update(fields)
        self.has_id |= (self._columns.id or "id") in fields
        for name, type_ in self._json.items():
            type_.see(fields.get(name))

    def _scan_batches(self, name: str, label: str, format_: FileFormat, size: float) -> int:
        """Check the schema of a table and decode its columns, as progress of `size` bytes; return the rows."""
        batches = open_batches(self._dataset, name, format_)
        try:
            schema, columns = batches.schema, self._columns
            names = {check_column(label, schema, columns.text, "--text-column")}
            if columns.id is not None or "id" in schema.names:
                names.add(check_column(label, schema, columns.id or "id", "--id-column", integers=True))
                self.has_id = True
            for kept in columns.keep:
                self._see_field(label, schema, kept)
            rows = 0
            for _, batch in batches.read(sorted({*names, *columns.keep})):
                rows += batch.num_rows
                if batches.rows is not None:
                    self._advance(size * batch.num_rows / batches.rows)
            if batches.rows is None:
                self._advance(size)
        finally:
            batches.close()
        return rows

    def _see_field(self, label: str, schema: "pyarrow.Schema", name: str) -> None:
        """Note the type of a kept column; raises RequestError if another file has another one."""
        if schema.names.count(name) != 1:
            has = ", ".join(schema.names) or "none"
            raise RequestError(
                f'--input {label} has no column "{name}". Its columns are {has}: name one with --keep-column.'
            )
        self._agree(label, _plain_field(schema.field(name)))

    def _agree(self, label: str, field: "pyarrow.Field") -> None:
        import pyarrow

        name = field.name
        if name not in self._fields or self._fields[name][1].type == pyarrow.null():
            self._fields[name] = (label, field)
            return
        other, before = self._fields[name]
        if field.type not in (before.type, pyarrow.null()) or field.metadata != before.metadata:
            kinds = [f"{one.type}" if one.metadata is None else "JSON values" for one in (before, field)]
            raise RequestError(
                f'The column "{name}" has {kinds[0]} in {other} and {kinds[1]} in {label}. Convert one of them, or '
                "remove --keep-column."
            )

    def check_fields(self) -> None:
        """Raise RequestError for a field that no line of the JSON lines has."""
        if self._first_line is None:
            return
        label, fields = self._first_line
        columns = self._columns
        options = {columns.text: "--text-column", columns.id: "--id-column"}
        for name in (columns.text, columns.id, *columns.keep):
            if name in self._missing:
                has = ", ".join(fields) or "none"
                option = options.get(name, "--keep-column")
                spec = without_credentials(self._dataset.spec)
                raise RequestError(
                    f'No line of --input {spec} has a field "{name}". The fields of the first line are {has}: name '
                    f"one with {option}."
                )
        for name, type_ in self._json.items():
            self._agree(label, type_.field(name))

    def kept_field(self, name: str) -> "pyarrow.Field":
        """Return the type of a kept column; a string if it has no value."""
        import pyarrow

        field = self._fields[name][1] if name in self._fields else pyarrow.field(name, pyarrow.null())
        return pyarrow.field(name, pyarrow.string()) if field.type == pyarrow.null() else field


def _plain_field(field: "pyarrow.Field") -> "pyarrow.Field":
    """Return a column as it is written: nullable, without metadata, and all encodings of strings are one type."""
    import pyarrow
    from pyarrow import types

    type_ = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_large_string(type_) or types.is_string_view(type_):
        type_ = pyarrow.string()
    return pyarrow.field(field.name, type_)


class _JsonType:
    """The type of the values of a JSON field."""

    def __init__(self) -> None:
        self._kinds = set[str]()

    def see(self, value: Any) -> None:
        """Note a value."""
        if value is None:
            return
        if isinstance(value, bool | float | str):
            self._kinds.add(type(value).__name__)
        elif isinstance(value, int):
            exact = -_EXACT <= value <= _EXACT
            self._kinds.add("exact" if exact else "int" if -_INT64 <= value < _INT64 else "other")
        else:
            self._kinds.add("other")

    def field(self, name: str) -> "pyarrow.Field":
        """Return the type of the column: of all values, or string with their JSON text."""
        import pyarrow

        for type_, kinds in (
            (pyarrow.null(), set[str]()),
            (pyarrow.bool_(), {"bool"}),
            (pyarrow.int64(), {"exact", "int"}),
            (pyarrow.float64(), {"exact", "float"}),
            (pyarrow.string(), {"str"}),
        ):
            if self._kinds <= kinds:
                return pyarrow.field(name, type_)
        return pyarrow.field(name, pyarrow.string(), metadata=JSON_TEXT)
