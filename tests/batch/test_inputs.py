"""Inputs of text, JSON lines and Parquet with named columns."""

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from max_gpt2.batch import Columns, InputFile, Line
from max_gpt2.batch.corpus.dataset import find_dataset
from max_gpt2.batch.corpus.source import DatasetSource
from max_gpt2.batch.inputs import USUAL_COLUMNS
from max_gpt2.errors import MaxGPT2Error, MissingExtraError, RequestError

TEXTS = ["The dog", ' \tcafé\r\n"quoted" 🌍', "", "日本語", "last"]


def scan(path: Path, text_field: str, columns: Columns = USUAL_COLUMNS) -> DatasetSource:
    return DatasetSource.scan(find_dataset(path), text_field, columns)


def parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("row_group_size", [1, 2, 5])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_of_parquet_are_lines(tmp_path: Path, row_group_size: int, kind: pa.DataType) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        {"meta": [1.5] * 5, "text": pa.array(TEXTS).cast(kind), "id": [7, None, 9, 2**62, -1]},
        row_group_size=row_group_size,
    )
    source = scan(path, "text")
    expected = [
        Line(number, {"text": text, **({} if id_ is None else {"id": id_})})
        for number, (text, id_) in enumerate(zip(TEXTS, [7, None, 9, 2**62, -1], strict=True), 1)
    ]
    assert (source.count, list(source.numbers())) == (5, [1, 2, 3, 4, 5])
    for after in range(6):
        assert list(source.lines(after)) == expected[after:]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"sentence": ["a", "b"], "key": ["x", None], "id": [1, 2]})
    source = scan(path, "text", Columns("sentence", "key"))
    assert [line.fields for line in source.lines()] == [{"text": "a", "id": "x"}, {"text": "b"}]
    source = scan(path, "text", Columns("key", "key"))
    assert next(source.lines()).fields == {"text": "x", "id": "x"}
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"sentence": "a", "key": 3, "other": [1]}\n{"key": 4}\n{"sentence": "c"}\n')
    first, second, third = InputFile.scan(lines, "text", Columns("sentence", "key")).lines()
    assert first == Line(1, {"text": "a", "id": 3})
    assert second.problem == 'The line has no field "sentence". Its fields are key.'
    assert third.problem == 'The line has no field "key". Its fields are sentence.'
    assert next(InputFile.scan(lines, "text", Columns(text="sentence")).lines()).fields == {"text": "a"}


def test_null_and_invalid_texts_are_problems_of_their_rows(tmp_path: Path) -> None:
    invalid = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0\4\0\0\0"), pa.py_buffer(b"a\xc3(c")]
    )
    path = parquet(
        tmp_path / "a.parquet", {"text": pa.chunked_array([pa.array([None], pa.string()), invalid]), "id": [1, 2, 3, 4]}
    )
    null, first, second, third = scan(path, "text").lines()
    assert (null.problem, null.fields) == ('The column "text" is null. Give it a text.', {"id": 1})
    assert (first.fields, third.fields) == ({"text": "a", "id": 2}, {"text": "c", "id": 4})
    assert second.problem == "The text is not UTF-8 at byte 1. Save it as UTF-8."


@pytest.mark.parametrize(
    ("columns", "chosen", "message"),
    [
        ({"sentence": ["a"]}, Columns(), r'has no column "text"\. Its columns are sentence: name one with --text-col'),
        ({"text": ["a"]}, Columns(id="key"), 'has no column "key".*--id-column'),
        ({"text": [1]}, Columns(), 'The column "text" of .* has int64, not strings'),
        ({"text": [["a"]]}, Columns(), "not strings"),
        ({"text": ["a"], "id": [1.5]}, Columns(), "has double, not strings or integers"),
        ({"text": pa.array([], pa.string())}, Columns(), "has no rows"),
    ],
)
def test_unusable_parquet_is_rejected(tmp_path: Path, columns: dict[str, Any], chosen: Columns, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        scan(parquet(tmp_path / "a.parquet", columns), "text", chosen)


def test_damaged_parquet_is_one_error(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet", {"text": [f"{number} {'x' * 50}" for number in range(2000)]}, compression=None
    )
    content = path.read_bytes()
    for damaged in (b"", b"PAR1", content[:-20]):
        path.write_bytes(damaged)
        with pytest.raises(RequestError, match=r"cannot be read \(.*\)\. Check the file"):
            scan(path, "text")
    path.write_bytes(content[:4] + b"\xff" * 2000 + content[2004:])
    with pytest.raises(RequestError, match=r"cannot be read \(.*\)\. Check the file"):
        list(scan(path, "text").lines())
    with pytest.raises(RequestError, match="does not exist"):
        scan(tmp_path / "none.parquet", "text")


def test_missing_pyarrow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"a\.parquet needs pyarrow .*max-gpt2\[corpus\]"):
        scan(tmp_path / "a.parquet", "text")


def test_plain_text_has_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\n\n \nb\n")
    assert (InputFile.scan(path, "text").count, list(InputFile.scan(path, "text").numbers())) == (2, [1, 4])
    with pytest.raises(MaxGPT2Error, match="has no columns"):
        InputFile.scan(path, "text", Columns(text="a"))


def test_large_files_are_read_lazily(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": ["a"] * 5000}, row_group_size=1000)
    assert [line.number for line in islice(scan(path, "text").lines(after=3999), 2)] == [4000, 4001]
