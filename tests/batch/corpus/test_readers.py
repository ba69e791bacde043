"""Rows of every format, read by their numbers."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_gpt2.batch.corpus.dataset import find_dataset
from max_gpt2.batch.corpus.readers import ColumnNames, DatasetReader, Row
from max_gpt2.batch.corpus.scan import Scan, scan_dataset

Records = list[dict[str, Any]]
TEXT = ColumnNames("text")
Write = Callable[[Path, Records], None]


def json_lines(records: Records) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def write_jsonl(path: Path, records: Records) -> None:
    path.write_bytes(json_lines(records))


def write_gzip_members(path: Path, records: Records) -> None:
    half = len(records) // 2
    path.write_bytes(gzip.compress(json_lines(records[:half])) + gzip.compress(json_lines(records[half:])))


def write_zstd_frames(path: Path, records: Records) -> None:
    frames = (json_lines(records[:1]), json_lines(records[1:]))
    path.write_bytes(b"".join(pa.compress(frame, "zstd", asbytes=True) for frame in frames))


def write_parquet(path: Path, records: Records) -> None:
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=300)


def write_stream(path: Path, records: Records) -> None:
    table = pa.Table.from_pylist(records)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=311)


def write_file(path: Path, records: Records) -> None:
    table = pa.Table.from_pylist(records)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=311)


WRITERS: dict[str, Write] = {
    "a.jsonl": write_jsonl,
    "b.ndjson": write_jsonl,
    "c.json": write_jsonl,
    "d.jsonl.gz": write_gzip_members,
    "e.json.zst": write_zstd_frames,
    "f.parquet": write_parquet,
    "g.arrow": write_stream,
    "h.arrow": write_file,
}


def read(
    spec: Path, columns: ColumnNames = TEXT, ranges: list[tuple[int, int]] | None = None
) -> tuple[Scan, list[Row]]:
    dataset = find_dataset(spec)
    scan = scan_dataset(dataset, columns, lambda done, total: None)
    reader = DatasetReader(dataset, scan.files, ColumnNames(columns.text, scan.id, columns.keep), scan.kept)
    total = sum(file.rows for file in scan.files)
    return scan, [row for first, stop in ranges or [(0, total)] for row in reader.rows(first, stop)]


@pytest.fixture(scope="module")
def records() -> Records:
    return [{"text": f"text {i} é\n", "id": i, "score": i / 7, "url": f"u{i}"} for i in range(1000)]


@pytest.mark.parametrize("name", WRITERS)
def test_rows_are_those_that_were_written(tmp_path: Path, records: Records, name: str) -> None:
    WRITERS[name](tmp_path / name, records)
    scan, rows = read(tmp_path / name, ColumnNames("text", keep=("score", "url")))
    assert (scan.id, scan.files[0].rows) == ("id", 1000)
    assert scan.kept == pa.schema([("score", pa.float64()), ("url", pa.string())])
    for index, (row, one) in enumerate(zip(rows, records, strict=True)):
        kept = {"score": one["score"], "url": one["url"]}
        assert row == Row(index, name, index + 1, one["text"], one["id"], kept, None)


Everything = tuple[Callable[[], DatasetReader], list[Row]]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, records: Records) -> Everything:
    """Return a function that opens a dataset with a file of each format, and its rows."""
    folder = tmp_path_factory.mktemp("every")
    for name, write in WRITERS.items():
        write(folder / name, records)
    scan, rows = read(folder)
    assert [row.index for row in rows] == list(range(8000))
    assert [row.text for row in rows] == 8 * [one["text"] for one in records]
    return lambda: DatasetReader(find_dataset(folder), scan.files, TEXT, scan.kept), rows


ROW = st.integers(0, 8000)


@settings(max_examples=30)
@given(ranges=st.lists(st.tuples(ROW, st.integers(0, 1500)), min_size=1, max_size=5))
def test_any_ranges_in_any_order_give_the_same_rows(everything: Everything, ranges: list[tuple[int, int]]) -> None:
    make, rows = everything
    reader = make()
    for first, count in ranges:
        found = list(reader.rows(first, min(first + count, 8000)))
        assert [(row.index, row.file, row.number, row.text) for row in found] == [
            (row.index, row.file, row.number, row.text) for row in rows[first : first + count]
        ]
