"""Rows without a usable text: each is a row with a problem, and hides no other row."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.batch.corpus.readers import ColumnNames, Row
from tests.batch.corpus.test_readers import read

KEEP = ColumnNames("text", keep=("extra",))
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)

#: Lines of JSON with the text or the problem that they have.
GOOD_LINES = st.builds(
    lambda text, ascii_: (json.dumps({"text": text, "id": 1}, ensure_ascii=ascii_).encode(), text, None),
    TEXT,
    st.booleans(),
)
BAD_LINES = st.sampled_from(
    [
        (b"{}", 'has no field "text". Its fields are none.'),
        (b'{"prompt": "a", "id": 1}', 'has no field "text". Its fields are prompt, id.'),
        (b'{"text": null}', 'The field "text" is null. Give it a text.'),
        (b'{"text": 5}', 'The field "text" is not a string. Give it a text.'),
        (b'{"text": ["a"]}', 'The field "text" is not a string.'),
        (rb'{"text": "ab\ud800"}', 'The field "text" has a lone surrogate, U+D800, as its character 3'),
        (rb'{"text": "a", "id": "\udfff"}', 'The field "id" has a lone surrogate, U+DFFF, as its character 1'),
        (rb'{"text": "a", "extra": "\udc80"}', 'The field "extra" has a lone surrogate'),
        (b'{"text": "a", "id": 1.5}', 'The field "id" is not a string or an integer.'),
        (b'{"text": "a", "id": true}', 'The field "id" is not a string or an integer.'),
        (b'{"text": "a", "text": "b"}', "not JSON (duplicate key)"),
        (b'{"text": NaN}', "not JSON (NaN is not valid JSON)"),
        (b'{"text": "a"', "not JSON"),
        (b'{"text": "\xff"}', "The line is not UTF-8 at byte 11. Save it as UTF-8."),
        (b'{"text": "\xed\xa0\x80"}', "The line is not UTF-8"),
        (b"\x00", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
    ]
).map(lambda pair: (pair[0], None, pair[1]))
BLANK = st.sampled_from([b"", b" ", b"\t\r", b"\x0b"]).map(lambda line: (line, None, None))


@given(lines=st.lists(GOOD_LINES | BAD_LINES | BLANK, min_size=1, max_size=12), mark=st.booleans(), last=st.booleans())
def test_each_line_is_a_row_with_its_text_or_its_problem(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[bytes, str | None, str | None]],
    mark: bool,
    last: bool,
) -> None:
    lines = [*lines, (b'{"text": "good", "extra": "e"}', "good", None)]
    content = b"\xef\xbb\xbf" * mark + b"\n".join(raw for raw, _, _ in lines) + b"\n" * last
    path = tmp_path_factory.mktemp("lines") / "a.jsonl.gz"
    path.write_bytes(gzip.compress(content, 1))
    _, rows = read(path, KEEP)
    expected = [(number, *one) for number, one in enumerate(lines, 1) if one[1] is not None or one[2] is not None]
    assert [row.number for row in rows] == [number for number, *_ in expected]
    assert [row.index for row in rows] == list(range(len(expected)))
    for row, (_, _, text, problem) in zip(rows, expected, strict=True):
        assert row.text == text
        assert row.problem == problem if problem is None else problem in str(row.problem)


TEXT_LINES = st.binary(max_size=6).filter(lambda line: b"\n" not in line)


@given(lines=st.lists(TEXT_LINES, min_size=1, max_size=12), ends=st.sampled_from([b"\n", b"\r\n"]))
def test_lines_of_text_files_are_texts(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bytes
) -> None:
    lines = [*lines, b"last"]
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(ends.join(lines))
    _, rows = read(path)
    expected = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip()
    ]
    assert [row.number for row in rows] == [number for number, _ in expected]
    for row, (number, line) in zip(rows, expected, strict=True):
        content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        content = content.removesuffix(b"\r")
        try:
            assert (row.text, row.problem) == (content.decode(), None)
        except UnicodeDecodeError as error:
            assert row.text is None
            assert row.problem == f"The line is not UTF-8 at byte {error.start + 1}. Save it as UTF-8."  # noqa: PT017


def strings(values: list[bytes | None], type_: pa.DataType) -> pa.Array:
    """Return an array of strings that may not be UTF-8, which pyarrow does not check when it reads a file."""
    if pa.types.is_dictionary(type_):
        indices = pa.array([None if value is None else place for place, value in enumerate(values)], pa.int32())
        return pa.DictionaryArray.from_arrays(indices, strings([value or b"" for value in values], type_.value_type))
    binary = pa.array(values, pa.large_binary() if type_ == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(type_, len(values), binary.buffers())


KINDS = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
VALUES = st.none() | st.binary(max_size=3) | TEXT.map(str.encode)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@given(
    values=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=9),
    kinds=st.tuples(*[st.sampled_from(KINDS)] * 3),
)
def test_each_row_of_a_table_has_its_text_or_its_problem(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, values: list[Any], kinds: tuple[Any, ...]
) -> None:
    names = ("text", "id", "extra")
    columns = [strings([row[place] for row in values], kind) for place, kind in enumerate(kinds)]
    table = pa.table(columns, names=names)
    path = tmp_path_factory.mktemp("table") / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path, row_group_size=4)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    _, rows = read(path, KEEP)
    for row, value in zip(rows, values, strict=True):
        check(row, *value)


def decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def check(row: Row, text: bytes | None, id_: bytes | None, extra: bytes | None) -> None:
    assert (row.id, row.kept) == (decoded(id_), {"extra": decoded(extra)})
    wrong = [
        name
        for name, value in (("text", text), ("id", id_), ("extra", extra))
        if (value is not None or name == "text") and decoded(value) is None
    ]
    assert row.text == (None if wrong else decoded(text))
    if not wrong:
        assert row.problem is None
    elif wrong[0] == "text":
        assert row.problem is not None
        assert row.problem.startswith('The column "text" is null' if text is None else "The text is not UTF-8 at byte")
    else:
        assert row.problem in [f'The column "{name}" is not UTF-8. Save it as UTF-8.' for name in wrong]


def test_string_views_and_integer_ids(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None, "long " * 9], pa.string_view()),
            "id": pa.array([2**64 - 1, 0, None], pa.uint64()),
        }
    )
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    _, rows = read(tmp_path / "a.arrow", ColumnNames("text", keep=("text",)))
    assert [(row.text, row.id) for row in rows] == [("a", 2**64 - 1), (None, 0), ("long " * 9, None)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet", ".arrow", ".txt.zst"])
def test_row_of_ten_megabytes(tmp_path: Path, suffix: str) -> None:
    texts = ["before", "0123456789" * 1_000_000, "after", "é" * 5_000_000, "end"]
    path, table = tmp_path / f"a{suffix}", pa.table({"text": texts})
    lines = "\n".join(texts) if "txt" in suffix else "\n".join(json.dumps({"text": text}) for text in texts)
    if suffix == ".parquet":
        pq.write_table(table, path)
    elif suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode(), 1))
    else:
        path.write_bytes(pa.compress(lines.encode(), "zstd", asbytes=True) if "zst" in suffix else lines.encode())
    _, rows = read(path)
    assert [row.text for row in rows] == texts
