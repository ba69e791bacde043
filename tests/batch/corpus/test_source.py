"""Datasets as inputs of an output that is one file."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from max_gpt2.batch import Columns, InputFile, Line
from max_gpt2.batch.corpus.dataset import check_outside
from max_gpt2.batch.corpus.source import DatasetSource, open_source
from max_gpt2.errors import InputError, RequestError

LINES = [
    '\ufeff{"text": "a", "id": 1}',
    "",
    '{"prompt_ids": [1]}',
    "{broken",
    '{"text": "é", "temperature": 0.5}\r',
    '{"body": "b", "key": "k", "id": 2}',
    " \t",
    '{"text": 5}',
]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".ndjson", ".txt"])
@pytest.mark.parametrize("columns", [Columns(), Columns("body"), Columns("body", "key")])
def test_compressed_file_has_the_lines_of_the_plain_file(tmp_path: Path, suffix: str, columns: Columns) -> None:
    if suffix == ".txt" and columns != Columns():
        return
    content = "\n".join(LINES).encode() + b"\n\xff"
    path = tmp_path / f"a{suffix if suffix != '.json' else '.jsonl'}"
    path.write_bytes(content)
    plain = InputFile.scan(path, "text", columns)
    zstd = pa.compress(content, "zstd", asbytes=True)
    for name, stored in ((f"b{suffix}.gz", gzip.compress(content)), (f"c{suffix}.zst", zstd), (f"d{suffix}", content)):
        (tmp_path / name).write_bytes(stored)
        source = open_source(str(tmp_path / name), "text", columns)
        assert isinstance(source, InputFile) == (name.startswith("d") and suffix != ".json")
        assert source.count == plain.count
        assert list(source.numbers()) == list(plain.numbers()) == [1, 3, 4, 5, 6, 8, 9]
        for after in range(10):
            assert list(source.lines(after)) == list(plain.lines(after))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(
        pa.table({"text": ["a", None, "c"] * 200, "id": [1, 2, None] * 200}), tmp_path / "a.parquet", row_group_size=70
    )
    (tmp_path / "b.jsonl").write_text("\n".join(LINES))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"x\n\ny\n"))
    table = pa.table({"text": ["z"] * 5})
    with pa.OSFile(str(tmp_path / "d.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return tmp_path


def test_rows_of_several_files_are_numbered_together(folder: Path) -> None:
    source = open_source(str(folder), "text")
    lines = list(source.lines())
    assert source.count == 613
    assert list(source.numbers()) == [line.number for line in lines] == list(range(1, 614))
    null = 'The column "text" is null. Give it a text.'
    assert lines[:3] == [Line(1, {"text": "a", "id": 1}), Line(2, {"id": 2}, null), Line(3, {"text": "c"})]
    assert lines[600:602] == [Line(601, {"text": "a", "id": 1}), Line(602, {"prompt_ids": [1]})]
    assert [line.fields for line in lines[-7:]] == [{"text": "x"}, {"text": "y"}, *[{"text": "z"}] * 5]
    for after in (0, 1, 69, 70, 599, 600, 601, 605, 606, 607, 612, 613):
        assert list(source.lines(after)) == lines[after:]
    assert open_source(f"{folder}/*[ab].*", "text").count == 606


def test_hash_depends_on_the_content_and_the_names(folder: Path) -> None:
    hashes = {open_source(str(folder), "text").sha256}
    (folder / "c.txt.gz").rename(folder / "e.txt.gz")
    hashes.add(open_source(str(folder), "text").sha256)
    (folder / "b.jsonl").write_text("\n".join(reversed(LINES)))
    hashes.add(open_source(str(folder), "text").sha256)
    assert len(hashes) == 3
    assert open_source(f"{folder}/a.p*", "text").sha256 == open_source(str(folder / "a.parquet"), "text").sha256


def test_plain_files_need_no_pyarrow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    assert open_source(str(folder / "b.jsonl"), "text").count == 6
    for name, message in (("none.jsonl", "does not exist"), ("a.csv", "is none of"), ("c.txt.gz", "needs pyarrow")):
        (folder / "a.csv").write_text("a")
        with pytest.raises(Exception, match=message):
            open_source(str(folder / name), "text")


def test_names_with_wildcards_are_files_first(tmp_path: Path) -> None:
    (tmp_path / "[a].jsonl").write_text('{"text": "literal"}')
    (tmp_path / "a.jsonl").write_text('{"text": "match"}')
    assert [line.fields["text"] for line in open_source(f"{tmp_path}/[a].jsonl", "text").lines()] == ["literal"]
    (tmp_path / "[a].jsonl").unlink()
    assert [line.fields["text"] for line in open_source(f"{tmp_path}/[a].jsonl", "text").lines()] == ["match"]


def test_file_that_becomes_unreadable_is_named_with_its_row(folder: Path) -> None:
    path = folder / "c.txt.gz"
    path.write_bytes(gzip.compress(b"".join(f"{i * 7919 % 10007}\n".encode() for i in range(800_000))))
    source = open_source(str(folder), "text")
    assert isinstance(source, DatasetSource)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"^--input {path} cannot be read after row \d+ \(.*\)\. Check the file\.$"):
        list(source.lines())
    path.unlink()
    with pytest.raises(InputError, match=rf"^--input {path} cannot be read \(.*\)\. Check the file\.$"):
        list(source.lines())


@pytest.mark.parametrize(
    ("spec", "output", "inside"),
    [
        ("data", "data/out.jsonl", True),
        ("data", "data/sub/out", True),
        ("data", "data/_out", False),
        ("data", "data.jsonl", False),
        ("link", "data/out.jsonl", True),
        ("data/*.jsonl", "data/out.jsonl", True),
        ("data/*.jsonl", "data/out.tsv", False),
        ("data/*.jsonl", "data/out", False),
        ("data/**/*.jsonl", "data/out", True),
        ("data/*/*", "data/out", True),
        ("data/a.jsonl", "data/out.jsonl", False),
        ("s3://bucket/data/?region=x", "s3://bucket/data/out", True),
        ("s3://bucket/data", "s3://bucket/data-out", False),
        ("data", "s3://bucket/data", False),
    ],
)
def test_output_must_not_be_a_part_of_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, output: str, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.jsonl").write_text("{}")
    (tmp_path / "link").symlink_to("data")
    if inside:
        with pytest.raises(RequestError, match=f"--output {output} is inside --input"):
            check_outside(spec, output)
    else:
        check_outside(spec, output)


def test_lines_of_json_values_are_kept(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"prompt": "a", "stop": ["x"], "temperature": 0.5, "id": "i"}
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(fields).encode()))
    assert list(open_source(str(tmp_path / "a.jsonl.gz"), "prompt").lines()) == [Line(1, fields)]
