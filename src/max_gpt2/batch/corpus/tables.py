"""Write the rows of a part as Parquet or JSON lines."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from max_gpt2._files import json_text
from max_gpt2.batch.corpus.folder import HashingSink
from max_gpt2.batch.corpus.plan import Plan
from max_gpt2.batch.corpus.readers import Row
from max_gpt2.batch.corpus.tensors import TensorsPart, read_rows
from max_gpt2.batch.parquet import RowWriter
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    import pyarrow

#: A row with this many tokens or words is converted at once, since as Python objects they take much memory.
_MANY_UNITS = 256


class PartWriter(Protocol):
    """Writes rows to a file; `close` completes the file."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; raises OSError."""
        ...

    def close(self) -> None:
        """Write what is left; raises OSError."""
        ...


def part_schema(plan: Plan, results: "pyarrow.Schema") -> "pyarrow.Schema":
    """Return the Arrow schema of a part: the place of the row, its id, the kept columns, the results, and the error.

    Raises RequestError for a kept column with the name of another one.
    """
    import pyarrow

    text = pyarrow.string()
    fields = [("index", pyarrow.int64()), ("file", text), ("row", pyarrow.int64())]
    if plan.columns.id is not None:
        fields.append(("id", text))
    own = {name for name, _ in fields} | set(results.names) | {"error"}
    kept = plan.kept_schema()
    if taken := own.intersection(kept.names):
        name = min(taken)
        raise RequestError(f'--keep-column "{name}" has the name of a column of the output. Rename it in the input.')
    if plan.format != "parquet":
        for field in kept:
            if not (_is_json(field.type) or _is_text(field.type)):
                raise RequestError(
                    f'--keep-column "{field.name}" has {field.type}, which JSON cannot hold. '
                    + ("Use --format parquet." if plan.format == "jsonl" else "Remove it.")
                )
    return pyarrow.schema([*fields, *kept, *results, ("error", text)])


def _is_json(type_: "pyarrow.DataType") -> bool:
    """Return whether JSON has values of an Arrow type."""
    import pyarrow.types as types

    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return _is_json(type_.value_type)
    if types.is_struct(type_):
        return all(_is_json(field.type) for field in type_)
    plain = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_null)
    return any(fits(type_) for fits in plain)


def _is_text(type_: "pyarrow.DataType") -> bool:
    """Return whether values of an Arrow type, which JSON does not have, are written as text."""
    import pyarrow.types as types

    return types.is_temporal(type_) or types.is_decimal(type_)


def output_row(plan: Plan, row: Row, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an input row and of its result, which is {"error": message} if it failed."""
    kept = {name: _encodable(row.kept.get(name)) for name in plan.columns.keep}
    id_ = {} if plan.columns.id is None else {"id": None if row.id is None else _encodable(str(row.id))}
    return {"index": row.index, "file": row.file, "row": row.number, **id_, **kept, **result}


def _encodable(value: Any) -> Any:
    """Return a value; in a string, lone surrogates, which UTF-8 cannot hold, are escaped."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def open_writer(plan: Plan, sink: HashingSink, schema: "pyarrow.Schema") -> PartWriter:
    """Return a writer of the plan's format."""
    if plan.format == "parquet":
        return ParquetPart(sink, schema)
    return JsonPart(sink, schema) if plan.format == "jsonl" else TensorsPart(sink, json_encoder(schema))


class ParquetPart(RowWriter):
    """Writes Parquet, compressed with Zstandard."""

    def __init__(self, sink: HashingSink, schema: "pyarrow.Schema") -> None:
        import pyarrow

        super().__init__(pyarrow.PythonFile(sink, mode="w"), schema, compression="zstd")

    def write(self, row: Mapping[str, Any]) -> None:
        """See `PartWriter`."""
        super().write(row)
        if len(row.get("units") or ()) >= _MANY_UNITS:
            self.convert()


class JsonPart:
    """Writes JSON lines in UTF-8; times and decimals are strings, and a number that JSON does not have is null."""

    def __init__(self, sink: HashingSink, schema: "pyarrow.Schema") -> None:
        self._sink, self._encode = sink, json_encoder(schema)

    def write(self, row: Mapping[str, Any]) -> None:
        """See `PartWriter`."""
        self._sink.write(f"{json_text(self._encode(row))}\n".encode())

    def close(self) -> None:
        """See `PartWriter`."""


def json_encoder(schema: "pyarrow.Schema") -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a function that takes a row and returns its columns as JSON values."""
    import pyarrow

    texts = {field.name: field.type for field in schema if _is_text(field.type)}

    def encode(row: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: row.get(name) for name in schema.names}
        for name, type_ in texts.items():
            value = values[name]
            scalar = value if isinstance(value, pyarrow.Scalar) else pyarrow.scalar(value, type_)
            values[name] = scalar.cast(pyarrow.string()).as_py()
        return values

    return encode


def read_column(plan: Plan, file: Any, name: str) -> Iterator[Any]:
    """Yield the values of a column of a part; raises OSError or ValueError if the file is damaged."""
    if plan.format == "jsonl":
        for line in file:
            yield json.loads(line)[name]
        return
    if plan.format == "safetensors":
        yield from (row[name] for row in read_rows(file))
        return
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as part:
        for batch in part.iter_batches(columns=[name]):
            yield from batch.column(name).to_pylist()
