"""Write the rows of a run as one table, TSV or Parquet, when all lines are done; resumable until then."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from max_gpt2._files import json_text
from max_gpt2.batch.files import OutputFile, Record, check_output, read_identity, sidecar, write_identity
from max_gpt2.batch.parquet import require_pyarrow, write_parquet
from max_gpt2.batch.run import Totals
from max_gpt2.errors import RequestError

Row = Mapping[str, Any]
#: The name of each column, in order, with its type: int, float, str or list.
Schema = Mapping[str, type]
WriteTable = Callable[[Path, Schema, Iterable[Row]], None]


def table_writer(path: Path) -> WriteTable | None:
    """Return the function that writes tables with the suffix of a path; None for JSON lines.

    Raises RequestError for another suffix and MissingExtraError for Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return None
    if suffix == ".tsv":
        return write_tsv
    if suffix == ".parquet":
        require_pyarrow(path)
        return write_parquet
    raise RequestError(f"--output {path} is none of .jsonl, .tsv and .parquet, which choose the format. Rename it.")


def write_tsv(path: Path, schema: Schema, rows: Iterable[Row]) -> None:
    """Write rows as tab-separated values in UTF-8, with a header; raises OSError when that fails.

    A text with a tab, a quote or a line end is in double quotes, and its quotes are doubled, as pandas and R read it.
    A missing value is empty, and a list is JSON.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("\t".join(schema) + "\n")
        for row in rows:
            file.write("\t".join(_cell(row.get(name)) for name in schema) + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = json_text(value) if isinstance(value, list) else str(value)
    # Not the csv module: before Python 3.13 it does not quote a carriage return.
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(one in text for one in '\t"\r\n') else text


def work_file(table: Path) -> Path:
    """Return the path of the hidden file of JSON lines that a run fills before it writes a table."""
    return table.with_name(f".{table.name}.work.jsonl")


def errors_file(table: Path) -> Path:
    """Return the path of the file beside a table with the lines that failed."""
    return table.with_name(f"{table.name}.errors.jsonl")


class TableOutput(OutputFile):
    """An output that becomes a table: until `finish`, a hidden file beside it has a record per line.

    Neither format can be appended to without rewriting a part of it, so a run cannot resume in the table itself.
    `finished` has the totals of a complete table of the same run; there is nothing to do then.
    """

    def __init__(self, table: Path, run: Mapping[str, Any], *, force: bool = False) -> None:
        """Open and lock the hidden file.

        Raises RequestError as `OutputFile` does, for the hidden file and for the table.
        """
        check_output(table)
        super().__init__(work_file(table), run, seed=0, force=force)
        self.table = table
        self.finished: Totals | None = None
        try:
            if table.exists() and not force:
                self.finished = read_identity(table, run, lambda recorded: Totals(**recorded["totals"]))
                self._delete_work()  # after a kill it may be left
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Delete an old table, which is replaced, and begin the hidden file."""
        for path in (self.table, sidecar(self.table), errors_file(self.table)):
            path.unlink(missing_ok=True)
        super().begin()

    def finish(self, write: WriteTable, schema: Schema, totals: Totals) -> None:
        """Write the table, and the file of errors if there are any; then delete the hidden file.

        The table appears last, and completely or not at all. Raises RequestError when a file cannot be written.
        """
        partial = self.table.with_name(f".{self.table.name}.new")
        try:
            write(partial, schema, self._rows())
            if totals.errors:
                self._write_errors()
            write_identity(self.table, self.run, totals=asdict(totals))
            partial.replace(self.table)
        except OSError as error:
            raise RequestError(
                f"{self.table} cannot be written ({error.strerror or error}). Its {self.done} lines are complete in "
                f"{self.path}; free some disk space and run the same command again to resume."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        self._delete_work()

    def _write_errors(self) -> None:
        with errors_file(self.table).open("w", encoding="utf-8") as file:
            file.writelines(f"{json_text(record)}\n" for record in self._records() if "error" in record)

    def _records(self) -> Iterator[Record]:
        with self.path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    def _rows(self) -> Iterator[Row]:
        """Yield the rows of all records without an error, each with the number and the id of its line."""
        for record in self._records():
            start = {"line": record["line"], "id": _id_text(record.get("id"))}
            for unit in record.get("units", ()):
                yield {"token_id": unit.get("id"), **unit, **start}

    def _delete_work(self) -> None:
        self.path.unlink(missing_ok=True)
        sidecar(self.path).unlink(missing_ok=True)


def _id_text(id_: object) -> str | None:
    """Return an id as a string, since a column has one type; a lone surrogate, which UTF-8 cannot hold, is escaped."""
    return None if id_ is None else str(id_).encode("utf-8", "backslashreplace").decode()
