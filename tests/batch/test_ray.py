"""`Scorer` in a Ray Data pipeline adds the columns that `GPT2.score` computes, whatever the batches and actors."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from max_gpt2 import GPT2
from max_gpt2.batch.ray import Scorer
from max_gpt2.errors import RequestError
from tests.support.ray_cluster import RayCluster, clean_environment

pytest.importorskip("ray")

TEXTS: list[str | None] = [f"The {word} of line {n}." for n, word in enumerate(["keys", "cabinet", "end"] * 20)]
TEXTS[7], TEXTS[40] = None, ""

#: Scores a Parquet file in a pipeline and writes the result; the column `pool` is the number of MAX's threads.
PIPELINE = """
import json, logging, sys
from pathlib import Path
import ray, ray.data
from max_gpt2.batch.ray import Scorer


class Counting(Scorer):
    def __call__(self, batch):
        scored = super().__call__(batch)
        pool = sum("Thread" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())
        if hasattr(scored, "append_column"):
            return scored.append_column("pool", [[pool] * len(scored)])
        return scored.assign(pool=pool)


call = json.loads(sys.argv[1])
ray.init(address=call["address"], logging_level=logging.ERROR, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
ray.data.read_parquet(call["input"]).map_batches(
    Counting,
    fn_constructor_kwargs=call["scorer"],
    compute=ray.data.ActorPoolStrategy(size=call["actors"]),
    num_cpus=call["num_cpus"],
    batch_size=7,
    batch_format=call["batch_format"],
).write_parquet(call["output"])
"""


@pytest.fixture(scope="module")
def gpt2(tiny_original: Path) -> GPT2:
    return GPT2.from_pretrained(tiny_original)


@pytest.mark.parametrize(
    ("actors", "num_cpus", "batch_format", "unit"),
    [(1, 2, "default", "text"), (3, 0.5, "pandas", "word")],
)
def test_pipeline_adds_the_scores(
    tiny_original: Path,
    gpt2: GPT2,
    cluster: RayCluster,
    tmp_path: Path,
    actors: int,
    num_cpus: float,
    batch_format: str,
    unit: Any,
) -> None:
    table = pyarrow.table({"number": range(len(TEXTS)), "content": pyarrow.array(TEXTS, pyarrow.string())})
    for start in range(0, len(TEXTS), 15):
        pyarrow.parquet.write_table(table.slice(start, 15), tmp_path / f"{start:02}.parquet")
    call = {
        "address": cluster.address,
        "input": [str(path) for path in sorted(tmp_path.glob("*.parquet"))],
        "output": str(tmp_path / "scored"),
        "scorer": {"model": str(tiny_original), "text_column": "content", "unit": unit, "base": "2"},
        "actors": actors,
        "num_cpus": num_cpus,
        "batch_format": batch_format,
    }
    done = subprocess.run(
        [sys.executable, "-c", PIPELINE, json.dumps(call)], env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = pyarrow.parquet.read_table(tmp_path / "scored").sort_by("number").to_pylist()
    assert {row["pool"] for row in rows} == {min(math.ceil(num_cpus), os.cpu_count() or 1)}
    check(rows, gpt2, unit, "content")


def check(rows: list[dict[str, Any]], gpt2: GPT2, unit: Any, column: str) -> None:
    assert [row[column] for row in rows] == TEXTS
    for row, text in zip(rows, TEXTS, strict=True):
        if text is None:
            assert row["error"] == f'The column "{column}" is null. Give it a text.'
            assert row["tokens"] is row["logprob"] is row.get("units") is None
            continue
        score = gpt2.score(text, unit=unit, base="2")
        assert row["error"] is None
        assert (row["tokens"], row["counted"]) == (len(score.tokens), score.counted)
        assert (row["logprob"], row["surprisal"]) == (score.logprob, score.surprisal)
        if text:
            assert (row["perplexity"], row["bits_per_byte"]) == (score.perplexity, score.bits_per_byte)
        else:
            assert row["perplexity"] is row["bits_per_byte"] is None
        assert row.get("units") == (None if unit == "text" else score.rows())


@pytest.fixture(scope="module")
def scorer(tiny_original: Path) -> Scorer:
    return Scorer(tiny_original, unit="text", base="2")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the defaults of Ray Data
def test_batch_keeps_its_columns(scorer: Scorer, gpt2: GPT2) -> None:
    numbers = np.arange(len(TEXTS))
    frame = pandas.DataFrame({"text": TEXTS, "number": numbers}, index=numbers[::-1])
    scored = scorer(frame)
    assert isinstance(scored, pandas.DataFrame)
    assert scored.index.equals(frame.index)
    pandas.testing.assert_frame_equal(scored[["text", "number"]], frame)
    check(pyarrow.Table.from_pandas(scored).to_pylist(), gpt2, "text", "text")
    vectors = np.arange(2 * len(TEXTS)).reshape(-1, 2)
    table = scorer({"text": np.array(TEXTS, dtype=object), "vector": vectors})
    assert isinstance(table, pyarrow.Table)
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), vectors)
    check(table.to_pylist(), gpt2, "text", "text")


def test_invalid_texts_have_an_error(scorer: Scorer) -> None:
    values = [b"bytes", b"\xff", "\ud800", 3, math.nan, pandas.NA, ["a"], "a text"]
    table = scorer({"text": np.array(values, dtype=object), "number": np.arange(len(values))})
    assert [error and error.split(".")[0] for error in table["error"].to_pylist()] == [
        None,
        "The text is not UTF-8 at byte 1",
        'The column "text" has a lone surrogate as its character 1',
        'The column "text" has a value of type int, not a string',
        'The column "text" is null',
        'The column "text" is null',
        'The column "text" has a value of type list, not a string',
        None,
    ]


def test_invalid_utf8_of_arrow_is_an_error_of_its_row(scorer: Scorer) -> None:
    texts = pyarrow.array([b"a text", b"\xff"]).view(pyarrow.string())
    table = scorer(pyarrow.table({"text": texts}))
    assert table["error"].to_pylist() == [None, "The text is not UTF-8 at byte 1. Save it as UTF-8."]
    assert table["tokens"].null_count == 1


def test_types_do_not_depend_on_the_values(scorer: Scorer) -> None:
    good, bad = (scorer({"text": np.array([text], dtype=object)}) for text in ("a text", None))
    assert good.schema.types[1:] == bad.schema.types[1:]
    frames = [scorer(pandas.DataFrame({"text": [text]})) for text in ("a text", None)]
    assert pyarrow.Table.from_pandas(frames[0]).schema.types[1:] == good.schema.types[1:]
    assert pyarrow.Table.from_pandas(frames[1]).schema.types[1:] == good.schema.types[1:]


def test_wrong_columns_are_named(scorer: Scorer) -> None:
    with pytest.raises(RequestError, match=r'no column "text". Its columns are a, b: name one with text_column'):
        scorer(pyarrow.table({"a": ["x"], "b": ["y"]}))
    with pytest.raises(RequestError, match='has a column "counted", like the results'):
        scorer({"text": np.array(["x"]), "counted": np.array([1])})
