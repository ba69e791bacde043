"""The scan of an input: hashes, row counts, columns and types."""

import datetime
import gzip
import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from max_gpt2.batch.corpus.dataset import find_dataset
from max_gpt2.batch.corpus.readers import ColumnNames, DatasetReader
from max_gpt2.batch.corpus.scan import InputFile, scan_dataset
from max_gpt2.errors import InputError, RequestError
from tests.batch.corpus.test_readers import TEXT, read

KEEP = ColumnNames("text", keep=("k",))


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return path
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def test_sizes_hashes_rows_and_progress(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"1\n\n2\n") + gzip.compress(b"3"))
    (tmp_path / "c.jsonl").write_text("\n \n")
    write_table(tmp_path / "d.parquet", {"text": ["x"] * 700})
    write_table(tmp_path / "e.arrow", {"text": ["x"] * 10})
    seen = list[tuple[int, int]]()
    scan = scan_dataset(find_dataset(tmp_path), TEXT, lambda done, total: seen.append((done, total)))
    paths = sorted(tmp_path.iterdir())
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    expected = zip(paths, hashes, [2, 3, 0, 700, 10], strict=True)
    assert scan.files == tuple(InputFile(path.name, path.stat().st_size, hash_, rows) for path, hash_, rows in expected)
    total = sum(path.stat().st_size for path in paths)
    assert seen == sorted(seen)
    assert (seen[-1], {one[1] for one in seen}) == ((total, total), {total})


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text('aé"\n', max_size=3)
)
KINDS: list[st.SearchStrategy[Any]] = [
    st.none() | st.booleans(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.text('aé"\n', max_size=3),
    SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text("ab", max_size=2), SCALARS, max_size=2),
]
VALUES = st.sampled_from(KINDS).flatmap(lambda kind: st.lists(kind, min_size=1, max_size=5))


@given(values=VALUES)
@example(values=[2**53 + 1, 0.5])
@example(values=[-(2**63), 2**63 - 1])
@example(values=[2**63])
@example(values=[True, 1])
@example(values=["\ud800"])
def test_kept_fields_have_the_type_of_all_values_or_are_json(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any]
) -> None:
    path = write_lines(tmp_path_factory.mktemp("kept") / "a.jsonl", *({"text": "t", "k": value} for value in values))
    scan, rows = read(path, KEEP)
    values = json.loads(json.dumps(values))  # an infinite number is one in JSON of Python
    some = [value for value in values if value is not None]
    (field,) = scan.kept
    kinds = {type(value) for value in some}
    if kinds <= {int} and all(-(2**63) <= value < 2**63 for value in some) and some:
        assert field.type == pa.int64()
    elif kinds == {bool}:
        assert field.type == pa.bool_()
    elif float in kinds and kinds <= {int, float} and all(type(one) is float or abs(one) <= 2**53 for one in some):
        assert field.type == pa.float64()
    else:
        assert field.type == pa.string()
    found = [row.kept["k"] for row in rows]
    if "\ud800" in values:
        assert (found, rows[0].problem is not None) == ([None], True)
        return
    assert pa.array(found, field.type).to_pylist() == found
    if field.type == pa.string() and kinds - {str}:
        assert field.metadata == {b"encoding": b"json"}
        parsed = [None if one is None else json.loads(one) for one in found]
        finite = [None if isinstance(one, float) and abs(one) == float("inf") else one for one in values]
        assert parsed == finite or float("inf") in map(abs, _numbers(values))
    else:
        assert (found, field.metadata) == (values, None)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, list):
        return [number for one in value for number in _numbers(one)]
    if isinstance(value, dict):
        return _numbers(list(value.values()))
    return [value] if isinstance(value, float) else []


COLUMNS: dict[str, Any] = {
    "date": pa.array([datetime.date(2020, 1, 2), None]),
    "day of a distant year": pa.array([10**8, None], pa.date32()),
    "timestamp": pa.array([1577836800000000001, None], pa.timestamp("ns", "Europe/Berlin")),
    "distant timestamp": pa.array([2**60, None], pa.timestamp("us")),
    "time": pa.array([1, None], pa.time64("ns")),
    "duration": pa.array([1, None], pa.duration("ns")),
    "decimal": pa.array([Decimal("1.50"), None]),
    "binary": pa.array([b"\xff\x00", None]),
    "half": pa.array([1.5, None], pa.float16()),
    "unsigned": pa.array([2**64 - 1, None], pa.uint64()),
    "list": pa.array([[1, None], None], pa.list_(pa.int16())),
    "struct": pa.array([{"a": 1, "b": datetime.datetime(2020, 1, 2, 3)}, None]),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    "times": pa.array([[1577836800000000001], None], pa.list_(pa.timestamp("ns"))),
    "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
    "infinite": pa.array([float("inf"), None]),
    "category": pa.array(["x", None]).dictionary_encode(),
    "large": pa.array(["x", None], pa.large_string()),
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_kept_columns_of_any_type_are_copied_exactly(tmp_path: Path, suffix: str, name: str) -> None:
    path = write_table(tmp_path / f"a{suffix}", {"text": ["a", "b"], "k": COLUMNS[name]})
    scan, rows = read(path, KEEP)
    assert [row.problem for row in rows] == [None, None]
    copied = pa.RecordBatch.from_pylist([dict(row.kept) for row in rows], scan.kept).column("k")
    type_ = pa.string() if name in ("category", "large", "nothing") else COLUMNS[name].type
    assert scan.kept == pa.schema([("k", type_)])
    assert copied.equals(COLUMNS[name].cast(type_))


def test_fields_missing_in_some_lines_are_null(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b", "k": 1, "id": "x"})
    write_table(tmp_path / "b.parquet", {"text": ["c"], "k": [2]})
    scan, rows = read(tmp_path, KEEP)
    assert (scan.id, scan.kept) == ("id", pa.schema([("k", pa.int64())]))
    assert [(row.text, row.id, row.kept["k"]) for row in rows] == [("a", None, None), ("b", "x", 1), ("c", None, 2)]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"body": "a", "key": 1, "id": "x"})
    write_table(tmp_path / "b.parquet", {"body": ["c"], "key": ["y"], "id": [1.5]})
    scan, rows = read(tmp_path, ColumnNames("body", "key"))
    assert (scan.id, [(row.text, row.id) for row in rows]) == ("key", [("a", 1), ("c", "y")])
    (tmp_path / "b.parquet").unlink()
    scan, rows = read(tmp_path, ColumnNames("body"))
    assert (scan.id, rows[0].id) == ("id", "x")
    (tmp_path / "c.txt").write_text("t")
    assert [row.text for row in read(tmp_path, ColumnNames("body"))[1]] == ["a", "t"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".arrow"])
def test_missing_columns_are_named_with_their_option(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write = write_table if suffix != ".jsonl" else lambda path, columns: write_lines(path, {"body": "a", "n": 1})
    write(path, {"body": ["a"], "n": [1]})
    for columns, name, option in (
        (TEXT, "text", "--text-column"),
        (ColumnNames("body", "key"), "key", "--id-column"),
        (ColumnNames("body", keep=("n", "url")), "url", "--keep-column"),
    ):
        lines = rf'No line of --input {path} has a field "{name}"\. The fields of the first line are body, n'
        table = rf'--input {path} has no column "{name}"\. Its columns are body, n'
        with pytest.raises(RequestError, match=f"^{lines if suffix == '.jsonl' else table}: name one with {option}"):
            read(path, columns)
    if suffix != ".jsonl":
        with pytest.raises(RequestError, match=rf'The column "n" of --input {path} has int64, not strings\. Choose'):
            read(path, ColumnNames("n"))


def test_different_types_of_a_kept_column_are_named(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.parquet", {"text": ["a"], "k": [1]})
    second = write_table(tmp_path / "b.arrow", {"text": ["a"], "k": ["x"]})
    with pytest.raises(RequestError, match=rf'column "k" has int64 in {first} and string in {second}\. Convert'):
        read(tmp_path, KEEP)
    first.unlink()
    third = write_lines(tmp_path / "c.jsonl", {"text": "a", "k": [1]})
    with pytest.raises(RequestError, match=rf'column "k" has string in {second} and JSON values in {third}'):
        read(tmp_path, KEEP)
    write_table(second, {"text": ["a"], "k": pa.nulls(1)})
    assert read(tmp_path, KEEP)[1][1].kept == {"k": "[1]"}


def test_text_files_have_one_column(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    scan, rows = read(tmp_path, ColumnNames("text", keep=("text",)))
    assert (scan.kept, rows[0].kept) == (pa.schema([("text", pa.string())]), {"text": "a"})
    for columns in (KEEP, ColumnNames("text", "id")):
        with pytest.raises(
            RequestError, match=r'a\.txt is plain text, with "text" as its only column\. Remove --id-column'
        ):
            read(tmp_path, columns)


@pytest.mark.parametrize("content", ['[{"text": "a"}]', " \n [\n", '\ufeff{\n"text": "a"\n}', "[" * 10_000])
def test_one_json_value_is_not_json_lines(tmp_path: Path, content: str) -> None:
    for name, encoded in (("a.json", content.encode()), ("b.JSON.gz", gzip.compress(content.encode()))):
        (tmp_path / name).write_bytes(encoded)
        with pytest.raises(
            RequestError, match=rf"{name} is an (array|object over several lines), not JSON lines\. Write"
        ):
            read(tmp_path / name)


def test_input_without_rows_is_rejected(tmp_path: Path) -> None:
    for name, content in (("a.txt", b""), ("b.jsonl.gz", gzip.compress(b"\n \n"))):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=r"has no rows\. Add a text"):
        read(tmp_path)


def damaged(path: Path) -> list[bytes]:
    """Return truncations of a file that are certainly invalid, and other bytes."""
    content = path.read_bytes()
    half = len(content) // 2
    return [content[:half], content[:-9], b"no such format" * 9, b"" if path.suffix != ".arrow" else b"\xff" * 9]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.zst", "a.parquet", "a.arrow", "file.arrow"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.jsonl").write_text('{"text": "good"}\n')
    path = tmp_path / name
    text = "".join(f'{{"text": "{i}"}}\n' for i in range(100)).encode()
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text))
    elif name.endswith(".zst"):
        path.write_bytes(pa.compress(text, "zstd", asbytes=True))
    elif name == "file.arrow":
        table = pa.table({"text": ["x"] * 100})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        write_table(path, {"text": ["x"] * 100})
    assert len(read(tmp_path)[1]) == 101
    for content in damaged(path):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^--input {path} (cannot be read|is empty).*Check the file\.$"):
            read(tmp_path)


@given(place=st.integers(0, 700), byte=st.integers(0, 255))
@example(place=204, byte=128)
def test_changed_byte_of_an_arrow_file_is_an_error_or_another_text(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = write_table(
        tmp_path_factory.mktemp("flip") / "a.arrow", {"text": ["a", "bc", None, "é"], "k": [[1], [], None, [2, 3]]}
    )
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        _, rows = read(path, KEEP)
    except RequestError as error:
        assert "a.arrow" in str(error)  # noqa: PT017
    else:
        assert all((row.text is None) == (row.problem is not None) for row in rows)


def test_changed_input_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *({"text": str(i)} for i in range(9)))
    dataset = find_dataset(path)
    files = scan_dataset(dataset, TEXT, lambda done, total: None).files
    original = path.read_bytes()
    for content, message in (
        (original + b"\n", "had 126 bytes and has 127 now"),
        (original.replace(b"5", b"6"), "its content has another SHA-256"),
        (None, "does not exist anymore"),
    ):
        path.write_bytes(content) if content is not None else path.unlink()
        reader = DatasetReader(dataset, files, TEXT)
        for first in (3, 0):
            with pytest.raises(InputError, match=rf"{path} .*{message}.* Restore it, or choose another --output"):
                list(reader.rows(first, 9))
        path.write_bytes(original)
        with pytest.raises(InputError, match=message):  # the check is not repeated
            list(reader.rows(0, 9))
    reader = DatasetReader(dataset, files, TEXT)
    rows = reader.rows(0, 9)
    assert next(rows).text == "0"
    assert [row.text for row in rows] == list("12345678")
    with pytest.raises(InputError, match="has only 9 rows"):
        list(DatasetReader(dataset, [InputFile("a.jsonl", len(original), files[0].sha256, 10)], TEXT).rows(0, 10))


def test_column_kept_twice_is_one_column(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"text": "a"})
    scan, rows = read(path, ColumnNames("text", "text", ("text", "text")))
    assert (scan.kept.names, rows[0].id, rows[0].kept) == (["text"], "a", {"text": "a"})
