"""Tables that are written when a run is complete, and read back with other libraries."""

import csv
import json
import math
import os
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.batch import InputFile, Record, Totals
from max_gpt2.batch.files import sidecar
from max_gpt2.batch.parquet import write_parquet
from max_gpt2.batch.tables import Schema, TableOutput, errors_file, table_writer, work_file, write_tsv
from max_gpt2.errors import MissingExtraError, RequestError
from tests.batch.test_files import file_size_limit

RUN: dict[str, Any] = {"command": "score", "input": "1", "model": "2", "options": {"unit": "word"}}
SCHEMA: Schema = {"line": int, "id": str, "text": str, "logprob": float, "rank": int, "top": list}
TRICKY = [
    "\t",
    'say "hi"',
    '"',
    "a\nb",
    "\r",
    "\r\n",
    " \u2028\x85\x0b",
    "NA",
    "null",
    "",
    "日本",
    "🌍",
    "\\n",
    "'",
    "#",
]
SUFFIXES = (".tsv", ".parquet")


def rows_of(line: int, texts: list[str] = TRICKY) -> list[dict[str, Any]]:
    top = [{"id": 5, "text": ' "x"\t', "logprob": -0.1}, {"id": 6, "text": "\n", "logprob": -2.5}]
    return [
        {"text": text, "logprob": -math.pi * line, "rank": None if at == 1 else 2**40, "top": None if at == 1 else top}
        for at, text in enumerate(texts)
    ]


def record(line: int) -> Record:
    if line == 2:
        return {"line": 2, "id": "bad", "error": "The line is broken."}
    return {"line": line, "id": 7, "tokens": [1, 2], "units": rows_of(line)}


@pytest.fixture
def source(tmp_path: Path) -> InputFile:
    path = tmp_path / "in.txt"
    path.write_text("a\nb\n\nc\n")
    return InputFile.scan(path, "text")


def write(path: Path, source: InputFile, count: int = 9, *, finish: bool = True, **options: Any) -> Totals:
    """Write up to `count` lines, and then the table."""
    writer, totals = table_writer(path), Totals()
    assert writer is not None
    with TableOutput(path, RUN, **options) as output:
        if output.finished:
            return output.finished
        output.resume(source, totals.add)
        output.begin()
        for number in islice(source.numbers(), output.done, output.done + count):
            output.write(record(number))
            totals.add(record(number))
        if finish:
            output.finish(writer, SCHEMA, totals)
    return totals


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir() if one.name != "in.txt")


EXPECTED = [{"line": line, "id": "7", **row} for line in (1, 4) for row in rows_of(line)]


def read_parquet(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def read_tsv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [parsed(row) for row in csv.DictReader(file, delimiter="\t")]


def parsed(row: dict[str, str]) -> dict[str, Any]:
    return {
        "line": int(row["line"]),
        "id": row["id"],
        "text": row["text"],
        "logprob": float(row["logprob"]),
        "rank": int(row["rank"]) if row["rank"] else None,
        "top": json.loads(row["top"]) if row["top"] else None,
    }


def test_tables_hold_every_text_exactly(tmp_path: Path, source: InputFile) -> None:
    write(tmp_path / "a.parquet", source)
    write(tmp_path / "a.tsv", source)
    assert read_parquet(tmp_path / "a.parquet") == EXPECTED
    assert read_tsv(tmp_path / "a.tsv") == EXPECTED
    frame = pd.read_csv(
        tmp_path / "a.tsv", sep="\t", keep_default_na=False, na_values={"rank": [""]}, lineterminator="\n"
    )
    assert [str(one) for one in frame["text"]] == [row["text"] for row in EXPECTED]
    assert frame["logprob"].tolist() == [row["logprob"] for row in EXPECTED]
    assert frame["rank"].isna().sum() == 2
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["text"].tolist() == [row["text"] for row in EXPECTED]
    assert str(frame["line"].dtype) == "int64"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_text_survives_in_both_formats(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        tsv, parquet = Path(folder, "a.tsv"), Path(folder, "a.parquet")
        rows = [{"line": 1, "id": "x", **row} for row in rows_of(1, texts)]
        write_tsv(tsv, SCHEMA, rows)
        write_parquet(parquet, SCHEMA, rows)
        assert read_tsv(tsv) == read_parquet(parquet) == rows


def test_large_tables_are_written_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_gpt2.batch.parquet._ROW_GROUP_BYTES", 100_000)
    path, rows = tmp_path / "a.parquet", [{"line": at, "id": None, **rows_of(1, ["x"])[0]} for at in range(3000)]
    write_parquet(path, SCHEMA, iter(rows))
    assert pq.ParquetFile(path).metadata.num_row_groups > 2
    assert read_parquet(path) == rows
    write_parquet(path, SCHEMA, iter(()))
    assert pq.read_table(path).column_names == list(SCHEMA)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_lines_are_in_a_file_of_their_own(tmp_path: Path, source: InputFile, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert write(path, source) == Totals(errors=1, tokens=4)
    assert errors_file(path).read_text() == '{"line": 2, "id": "bad", "error": "The line is broken."}\n'
    assert names(path) == [path.name, f"{path.name}.errors.jsonl", f"{path.name}.run.json"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_interrupted_run_resumes_to_the_same_table(tmp_path: Path, source: InputFile, suffix: str) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"a{suffix}"
    totals = write(whole, source)
    write(path, source, 1, finish=False)
    assert names(path)[:2] == [f".a{suffix}.work.jsonl", f".a{suffix}.work.jsonl.run.json"]
    assert not path.exists()
    work_file(path).write_bytes(work_file(path).read_bytes() + b'{"line": 2, "un')  # killed within a line
    write(path, source, 1, finish=False)
    assert write(path, source) == totals
    assert path.read_bytes() == whole.read_bytes()
    content = path.stat()
    assert write(path, source) == totals  # already complete
    assert path.stat() == content
    assert not [name for name in names(path) if name.startswith(".")]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("at", range(4))
def test_kill_at_any_step_of_the_end_loses_nothing(
    tmp_path: Path, source: InputFile, suffix: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves files as they are: no `finally` runs, here because nothing can be deleted or renamed any more."""
    path, steps = tmp_path / f"a{suffix}", [0]

    def stop(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            steps[0] += 1
            if steps[0] > at:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return step

    write(path, source, finish=False)
    writer = table_writer(path)
    assert writer is not None
    monkeypatch.setattr(Path, "replace", stop(Path.replace))  # of the identity and the table
    monkeypatch.setattr(Path, "unlink", stop(Path.unlink))
    output = TableOutput(path, RUN)
    output.resume(source, lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        output.finish(writer, SCHEMA, Totals(errors=1, tokens=4))
    monkeypatch.undo()
    os.close(output._file)
    assert write(path, source) == Totals(errors=1, tokens=4)
    assert (read_tsv if suffix == ".tsv" else read_parquet)(path) == EXPECTED
    left = [name for name in names(path) if not name.startswith("tmp")]  # the identity's temporary file may be left
    assert left == [path.name, f"{path.name}.errors.jsonl", f"{path.name}.run.json"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_while_the_table_is_written(tmp_path: Path, source: InputFile, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, source, finish=False)
    size = 60  # less than the table and more than nothing
    with (
        file_size_limit(size),
        pytest.raises(
            RequestError, match=rf"a\{suffix} cannot be written \(.*File too large.*Its 3 lines are complete"
        ),
    ):
        write(path, source)
    assert names(path) == [f".a{suffix}.work.jsonl", f".a{suffix}.work.jsonl.run.json"]
    write(path, source)
    assert (read_tsv if suffix == ".tsv" else read_parquet)(path) == EXPECTED


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_table_of_a_different_run_is_rejected_and_unchanged(
    tmp_path: Path, source: InputFile, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, source)
    content, files = path.read_bytes(), names(path)
    monkeypatch.setitem(RUN, "options", {"unit": "token"})
    with pytest.raises(RequestError, match=r"a different unit \(word, now token\).*--force"):
        write(path, source)
    assert (path.read_bytes(), names(path)) == (content, files)
    write(path, source, 1, finish=False, force=True)
    assert not {path.name, sidecar(path).name, errors_file(path).name} & set(names(path))
    monkeypatch.undo()
    with pytest.raises(RequestError, match=r"work\.jsonl belongs to a run with a different unit"):
        write(path, source)
    write(path, source, force=True)
    assert (path.read_bytes(), names(path)) == (content, files)


def test_foreign_and_damaged_tables_are_rejected(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("mine\n")
    with pytest.raises(RequestError, match=r"a\.tsv exists, but a\.tsv\.run\.json, .* is missing"):
        write(path, source)
    for damage in ("[", "[]", "{}", '{"totals": 1}', '{"totals": {"x": 1}}'):
        sidecar(path).write_text(damage)
        with pytest.raises(RequestError, match="is damaged"):
            write(path, source)
    assert names(path) == ["a.tsv", "a.tsv.run.json"]
    assert path.read_text() == "mine\n"
    (tmp_path / "b.tsv").symlink_to("/dev/full")
    with pytest.raises(RequestError, match="not a regular file"):
        write(tmp_path / "b.tsv", source)


def test_concurrent_runs_with_one_table_are_rejected(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "a.tsv"
    with TableOutput(path, RUN) as output:
        output.begin()
        with pytest.raises(RequestError, match="Another run is writing"):
            write(path, source)


def test_suffix_chooses_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert table_writer(Path("a.jsonl")) is None
    assert table_writer(Path("a.TSV")) is write_tsv
    assert table_writer(Path("a.parquet")) is write_parquet
    for name in ("a", "a.csv", "a.json", ".tsv"):
        with pytest.raises(RequestError, match=r"is none of \.jsonl, \.tsv and \.parquet"):
            table_writer(tmp_path / name)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"needs pyarrow .*max-gpt2\[corpus\]"):
        table_writer(Path("a.parquet"))


def test_ids_of_any_kind_are_text(tmp_path: Path, source: InputFile, monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[Any] = [None, "\ud800", 10**30]
    monkeypatch.setattr(
        "tests.batch.test_tables.record",
        lambda line: {"line": line, "tokens": [], "units": rows_of(1, ["x"]), "id": ids[min(line, 3) - 1]},
    )
    write(tmp_path / "a.parquet", source)
    assert [row["id"] for row in read_parquet(tmp_path / "a.parquet")] == [None, "\\ud800", str(10**30)]
