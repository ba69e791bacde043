"""The files of parts: kept columns of every type, in both formats."""

import base64
import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from max_gpt2.batch.corpus.folder import LocalFolder
from max_gpt2.batch.corpus.plan import Format, Plan
from max_gpt2.batch.corpus.readers import ColumnNames, Row
from max_gpt2.batch.corpus.tables import open_writer, output_row, part_schema
from max_gpt2.errors import RequestError

KEPT = {
    "when": (
        pa.timestamp("ns", tz="UTC"),
        pa.scalar(1, pa.timestamp("ns", tz="UTC")),
        "1970-01-01 00:00:00.000000001Z",
    ),
    "day": (pa.date32(), datetime.date(2020, 1, 2), "2020-01-02"),
    "price": (pa.decimal128(9, 2), decimal.Decimal("1.50"), "1.50"),
    "ids": (pa.list_(pa.int64()), [1, 2], [1, 2]),
    "more": (
        pa.struct({"a": pa.string(), "b": pa.list_(pa.float64())}),
        {"a": "é", "b": [0.5]},
        {"a": "é", "b": [0.5]},
    ),
    "flag": (pa.bool_(), True, True),
    "lone": (pa.string(), "\ud800!", "\\ud800!"),
    "not a number": (pa.float64(), float("nan"), None),
}
RESULTS = pa.schema({"logprob": pa.float64()})


def plan(format_: Format, kept: "pa.Schema") -> Plan:
    encoded = base64.b64encode(kept.serialize().to_pybytes()).decode()
    return Plan("score", {}, "", (), ColumnNames("text", "id", tuple(kept.names)), encoded, format_, 10)


def write(tmp_path: Path, format_: Format) -> list[dict[str, Any]]:
    """Write a row with every kept column and one without, and return them as they are read."""
    made = plan(format_, pa.schema({name: type_ for name, (type_, _, _) in KEPT.items()}))
    claim = LocalFolder(tmp_path).claim("part")
    assert claim is not None
    writer = open_writer(made, claim.sink, part_schema(made, RESULTS))
    kept = {name: value for name, (_, value, _) in KEPT.items()}
    writer.write(output_row(made, Row(0, "a.parquet", 1, "x", 7, kept, None), {"logprob": -1.5}))
    writer.write(output_row(made, Row(1, "a.parquet", 2, None, None, {}, "No."), {"error": "No."}))
    writer.close()
    claim.commit()
    claim.abandon()
    if format_ == "jsonl":
        return [json.loads(line) for line in (tmp_path / "part").read_text().splitlines()]
    return pq.read_table(tmp_path / "part").to_pylist()


def test_json_lines_have_text_for_what_json_lacks(tmp_path: Path) -> None:
    first, second = write(tmp_path, "jsonl")
    own = {"index": 0, "file": "a.parquet", "row": 1, "id": "7", "logprob": -1.5, "error": None}
    assert first == own | {name: shown for name, (_, _, shown) in KEPT.items()}
    empty = dict.fromkeys([*KEPT, "id", "logprob"])
    assert second == {"index": 1, "file": "a.parquet", "row": 2, "error": "No.", **empty}


def test_parquet_keeps_the_types(tmp_path: Path) -> None:
    write(tmp_path, "parquet")
    table = pq.read_table(tmp_path / "part")
    assert {name: table.schema.field(name).type for name in KEPT} == {
        name: type_ for name, (type_, _, _) in KEPT.items()
    }
    assert table.column("when").cast(pa.int64()).to_pylist() == [1, None]
    assert table.column("price").to_pylist() == [decimal.Decimal("1.50"), None]
    assert table.column("lone").to_pylist() == ["\\ud800!", None]


def test_json_lines_refuse_bytes_by_name() -> None:
    for type_ in (pa.binary(), pa.list_(pa.date32()), pa.map_(pa.string(), pa.int64())):
        kept = pa.schema({"data": type_})
        with pytest.raises(RequestError, match=r'--keep-column "data" has .*, which JSON cannot hold'):
            part_schema(plan("jsonl", kept), RESULTS)
        assert part_schema(plan("parquet", kept), RESULTS).field("data").type == type_


@pytest.mark.parametrize("name", ["index", "file", "row", "id", "logprob", "error"])
def test_kept_column_cannot_have_the_name_of_another(name: str) -> None:
    with pytest.raises(RequestError, match=f'--keep-column "{name}" has the name of a column of the output'):
        part_schema(plan("parquet", pa.schema({name: pa.string()})), RESULTS)
