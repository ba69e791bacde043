"""Time, memory and reads of a dataset."""

import gzip
import io
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from max_gpt2.batch.corpus.dataset import Dataset, find_dataset
from max_gpt2.batch.corpus.formats import FileFormat
from max_gpt2.batch.corpus.lines import numbered_lines
from max_gpt2.batch.corpus.readers import DatasetReader
from max_gpt2.batch.corpus.scan import InputFile, scan_dataset
from tests.batch.corpus.test_readers import TEXT, WRITERS
from tests.support.growth import assert_linear


class CountingHandler(fs.FileSystemHandler):  # type: ignore[misc]
    """A file system that counts how often each file is opened, and the bytes that are read from it."""

    def __init__(self) -> None:
        self.local, self.opened, self.bytes = fs.LocalFileSystem(), Counter[str](), Counter[str]()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def get_type_name(self) -> str:
        return "counting"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        return self.local.get_file_info(paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> Any:
        return self.local.get_file_info(selector)

    def _open(self, path: str) -> Any:
        self.opened[Path(path).name] += 1
        handler, file = self, self.local.open_input_file(path)

        class Counted:
            closed = False

            def read(self, size: int = -1) -> bytes:
                content = bytes(file.read(None if size < 0 else size))
                handler.bytes[Path(path).name] += len(content)
                return content

            def seek(self, *place: int) -> int:
                return int(file.seek(*place))

            def tell(self) -> int:
                return int(file.tell())

            def size(self) -> int:
                return int(file.size())

            def close(self) -> None:
                self.closed = True

        return pa.PythonFile(Counted(), mode="r")

    open_input_stream = open_input_file = _open

    def unused(self, *_arguments: object) -> None:
        raise AssertionError("an input is only read")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = unused
    delete_file = move = copy_file = open_output_stream = open_append_stream = unused


def test_pass_over_all_parts_opens_each_file_once_to_check_and_once_to_read(tmp_path: Path) -> None:
    records = [{"text": f"text {i}", "id": i} for i in range(5000)]
    for name, write in WRITERS.items():
        if name != "c.json":
            write(tmp_path / name, records)
    handler = CountingHandler()
    dataset = find_dataset(str(tmp_path), fs.PyFileSystem(handler))
    scan = scan_dataset(dataset, TEXT, lambda done, total: None)
    handler.opened.clear()
    handler.bytes.clear()
    reader, total = DatasetReader(dataset, scan.files, TEXT), sum(file.rows for file in scan.files)
    starts = [*range(0, total, 137), total]
    rows = [row for first, stop in pairwise(starts) for row in reader.rows(first, stop)]
    assert [row.text for row in rows] == 7 * [one["text"] for one in records]
    assert handler.opened == dict.fromkeys(dataset.names, 2)
    # Twice, and the ends of Parquet files and the heads of Arrow files once more.
    assert all(handler.bytes[file.name] <= 2 * file.bytes + 70_000 for file in scan.files)


def test_shard_of_a_parquet_file_reads_its_row_groups_only(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": [f"{i:0500}" for i in range(20_000)]}),
        tmp_path / "a.parquet",
        row_group_size=500,
        use_dictionary=False,
        compression="NONE",
    )
    handler = CountingHandler()
    dataset = find_dataset(str(tmp_path), fs.PyFileSystem(handler))
    files = scan_dataset(dataset, TEXT, lambda done, total: None).files
    for first in (15_000, 2_000):
        handler.bytes.clear()
        (row,) = DatasetReader(dataset, files, TEXT).rows(first, first + 1)
        assert row.text == f"{first:0500}"
        assert files[0].bytes < handler.bytes["a.parquet"] < 1.2 * files[0].bytes


def dataset_of(folder: Path, rows: int) -> tuple[Dataset, list[InputFile]]:
    folder.mkdir()
    for name in ("a.jsonl", "d.jsonl.gz", "f.parquet", "g.arrow"):
        WRITERS[name](folder / name, [{"text": f"text {i}"} for i in range(rows)])
    dataset = find_dataset(folder)
    return dataset, list(scan_dataset(dataset, TEXT, lambda done, total: None).files)


def test_time_of_a_pass_is_linear(tmp_path: Path) -> None:
    def read_parts(prepared: tuple[Dataset, list[InputFile]]) -> None:
        reader, total = DatasetReader(*prepared, TEXT), sum(file.rows for file in prepared[1])
        for first in range(0, total, 50):
            assert sum(1 for _ in reader.rows(first, min(first + 50, total))) == min(50, total - first)

    assert_linear(lambda size: dataset_of(tmp_path / str(size), size), read_parts, 2000)


def test_time_of_a_long_line_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_gpt2.batch.corpus.lines._CHUNK", 1 << 6)
    plain = FileFormat("text")
    assert_linear(bytes, lambda line: list(numbered_lines(io.BytesIO(line), plain)), 1 << 16)


PEAK = r"""
import re, sys
from max_gpt2.batch.corpus.dataset import find_dataset
from max_gpt2.batch.corpus.formats import FileFormat
from max_gpt2.batch.corpus.lines import numbered_lines
from max_gpt2.batch.corpus.readers import ColumnNames, DatasetReader
from max_gpt2.batch.corpus.scan import scan_dataset
columns = ColumnNames("text")
peaks = []
for path in sys.argv[1:]:
    dataset = find_dataset(path)
    scan = scan_dataset(dataset, columns, lambda done, total: None)
    count = sum(len(row.text) > 0 for row in DatasetReader(dataset, scan.files, columns).rows(0, scan.files[0].rows))
    # Not ru_maxrss, which a process inherits from the one that started it.
    peaks.append(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
print(*peaks)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("suffix", [".jsonl", ".txt.gz", ".jsonl.zst", ".parquet", ".arrow"])
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path, suffix: str) -> None:
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
    sizes = [write_megabytes(path, count) for path, count in ((small, 10), (large, 80))]
    assert sizes[1] > 7 * sizes[0]
    command = [sys.executable, "-c", PEAK, str(small), str(large)]
    # dict(): without the variables that MAX's libraries set in this process.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert second - first < 24 << 10, f"{first} KiB, then {second} KiB"


def write_megabytes(path: Path, megabytes: int) -> int:
    """Write a file of texts of about 1,000 characters, a Parquet file with one row group; return its size."""
    texts = [f"{number} " * (1000 // len(f"{number} ")) for number in range(megabytes * 1000)]
    lines = "\n".join(json.dumps({"text": text}) if "json" in path.name else text for text in texts).encode()
    if path.suffix == ".parquet":
        pq.write_table(
            pa.table({"text": texts}), path, use_dictionary=False, compression="NONE", row_group_size=len(texts)
        )
    elif path.suffix == ".arrow":
        table = pa.table({"text": texts})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines, 1))
    else:
        path.write_bytes(pa.compress(lines, "zstd", asbytes=True) if path.suffix == ".zst" else lines)
    return len(lines)
