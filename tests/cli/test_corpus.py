"""`max-gpt2 score|perplexity|generate --input ... --output FOLDER`, and `max-gpt2 corpus`."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from max_gpt2.generation import open_model
from max_gpt2.scoring import Score, ScoreOptions, Scorer, load_scorer, score_texts
from max_gpt2.scoring.measurement import PerplexityOptions, measure, plan_perplexity
from tests.support.cli import Cli, Outcome, refused

#: Texts of uneven lengths, one with a null, one of two lines, one longer than the context of 68.
TEXTS = [
    "The dog",
    "Was it the best?",
    None,
    "A 🌍\nof two lines",
    "lazy dog. " * 40,
    "",
    *["The lazy dog was it."] * 6,
]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with texts in three files: compressed JSON lines, JSON lines and Parquet."""
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [json.dumps({"id": f"a{n}", "text": text, "weight": n / 2}) + "\n" for n, text in enumerate(TEXTS)]
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("".join(lines[:5]).encode()))
    (folder / "b.jsonl").write_text("".join([*lines[5:8], "\n", *lines[8:10]]))
    columns = {"id": ["a10", "a11"], "text": TEXTS[10:], "weight": [5.0, 5.5]}
    pq.write_table(pa.table(columns), folder / "c.parquet")
    return folder


@pytest.fixture
def score(cli: Cli, tiny_original: Path, texts: Path) -> Cli:
    """`max-gpt2 score` of the texts in parts of five rows."""
    return lambda *arguments: cli("score", "--model", tiny_original, "--input", texts, "--part-rows", 5, *arguments)


@pytest.fixture(scope="module")
def scorer(tiny_original: Path) -> Scorer:
    return load_scorer(open_model(tiny_original))


def content(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, the hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_parts_have_the_scores_and_the_kept_columns(score: Cli, scorer: Scorer, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    done = score("--output", out, "--keep-column", "weight", "--entropy", "--json")
    assert done.code == 1  # of the row without a text
    summary = json.loads(done.out)
    assert (summary["parts"], summary["done"], summary["rows"], summary["errors"]) == (3, 3, 12, 1)
    assert "a.jsonl.gz, row 3: " in done.err
    found = pandas.read_parquet(out)
    assert found["index"].tolist() == list(range(12))
    assert found["file"].tolist() == ["a.jsonl.gz"] * 5 + ["b.jsonl"] * 5 + ["c.parquet"] * 2
    assert found["row"].tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 5, 6, 1, 2]  # the fourth line of b.jsonl is blank
    assert found["id"].tolist() == [f"a{n}" for n in range(12)]
    assert found["weight"].tolist() == [n / 2 for n in range(12)]
    options = ScoreOptions(entropy=True)
    scores = iter(list(score_texts(scorer, [text for text in TEXTS if text is not None], options)))
    for text, row in zip(TEXTS, pq.read_table(out).to_pylist(), strict=True):
        if text is None:
            assert row["error"]
            assert (row["tokens"], row["logprob"], row["units"]) == (None, None, None)
            continue
        scored = next(scores)
        assert isinstance(scored, Score)
        expected = scored.to_dict()
        assert row["error"] is None
        assert row["tokens"] == len(expected["tokens"])
        names = ("counted", "logprob", "surprisal", "perplexity", "bits_per_byte", "units")
        assert {name: row[name] for name in names} == {name: expected[name] for name in names}
    assert summary["tokens"] == int(found["tokens"].sum())
    status = json.loads(cli("corpus", "status", out, "--json").out)["shards"]
    assert status == [
        {"shard": "1/1", "parts": 3, "done": 3, "rows": 12, "rows_done": 12, "tokens": summary["tokens"], "errors": 1}
    ]


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_shards_in_any_order_write_the_bytes_of_one_run(score: Cli, tmp_path: Path, cli: Cli, format_: str) -> None:
    options = ("--format", format_, "--unit", "word", "--part-rows", 2, "--keep-column", "weight")
    score("--output", tmp_path / "one", *options)
    for shard in ("4/4", "1/4", "3/4"):
        score("--output", tmp_path / "many", *options, "--shard", shard)
    assert cli("corpus", "verify", tmp_path / "many").code == 1
    missing = cli("corpus", "verify", tmp_path / "many").out
    assert f"part-00001.{format_} is missing or not complete" in missing
    status = json.loads(cli("corpus", "status", tmp_path / "many", "--shards", 4, "--json").out)
    assert [one["done"] for one in status["shards"]] == [1, 0, 1, 2]
    rest = json.loads(score("--output", tmp_path / "many", *options, "--json").out)
    assert (rest["resumed"], rest["done"]) == (4, 6)
    assert content(tmp_path / "many") == content(tmp_path / "one")
    verified = cli("corpus", "verify", tmp_path / "many")
    assert verified.code == 0
    assert "6 of 6 parts verified, with 12 of 12 rows, 1 of them with an error." in verified.out


def test_formats_have_the_same_values(score: Cli, tmp_path: Path) -> None:
    for format_ in ("parquet", "jsonl"):
        score("--output", tmp_path / format_, "--format", format_, "--top", 2, "--ranks", "--keep-column", "text")
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "jsonl").glob("part-*"))
        for line in path.read_text().splitlines()
    ]
    assert lines == pq.read_table(tmp_path / "parquet").to_pylist()
    assert [line["text"] for line in lines] == TEXTS


def test_perplexity_of_each_row_is_that_of_the_text_alone(
    cli: Cli, tiny_original: Path, texts: Path, tmp_path: Path, scorer: Scorer
) -> None:
    arguments = ("perplexity", "--model", tiny_original, "--input", texts, "--output", f"{tmp_path}/out")
    for protocol, window in (("strided", 9), ("lm-eval", 20)):
        options = ("--protocol", protocol, "--window", window, "--part-rows", 7, "--force")
        assert cli(*arguments, *options).code == 1
        rows = pq.read_table(tmp_path / "out").to_pylist()
        for text, row in zip(TEXTS, rows, strict=True):
            if not text:
                assert row["error"]
                assert row["nll"] is None
                continue
            plans, report = plan_perplexity(
                scorer.config, scorer.tokenizer, text, PerplexityOptions([protocol], window)
            )
            expected = measure(scorer, plans, report)
            assert row["nll"] == expected.results[0].nll
            assert row["scored_tokens"] == expected.results[0].scored_tokens
            units = [one.denominator for one in expected.results]
            names = ["perplexity"] if units == ["token"] else [f"{unit}_perplexity" for unit in units]
            assert [row[name] for name in names] == [one.perplexity for one in expected.results]


def test_generated_parts_equal_the_lines_of_a_file(cli: Cli, tiny_original: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
    arguments = (
        "generate",
        "--model",
        tiny_original,
        "--input",
        prompts,
        "--max-new-tokens",
        4,
        "--logprobs",
        1,
        "--json",
    )
    assert cli(*arguments, "--output", tmp_path / "out.jsonl", "--seed", 5).code == 1
    assert cli(*arguments, "--output", tmp_path / "out", "--part-rows", 5, "--seed", 5).code == 1
    expected = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = pq.read_table(tmp_path / "out").to_pylist()
    for before, now in zip(expected, found, strict=True):
        assert ("error" in before) == (now["error"] is not None)
        if "error" not in before:
            names = ("prompt_tokens", "tokens", "text", "finish_reason", "seed")
            assert {name: now[name] for name in names} == {name: before[name] for name in names}
            assert [one["logprob"] for one in now["logprobs"]] == [one["logprob"] for one in before["logprobs"]]


def test_drawn_seed_belongs_to_the_run(cli: Cli, tiny_original: Path, texts: Path, tmp_path: Path) -> None:
    arguments = ("generate", "--model", tiny_original, "--input", texts, "--text-column", "text", "--part-rows", 6)
    options = ("--output", tmp_path / "out", "--max-new-tokens", 3)
    cli(*arguments, *options, "--shard", "2/2")
    first = content(tmp_path / "out")
    cli(*arguments, *options)
    assert first.items() <= content(tmp_path / "out").items()
    seed = json.loads((tmp_path / "out/_corpus.json").read_text())["options"]["seed"]
    assert "a different seed" in refused(cli(*arguments, *options, "--seed", seed + 1))
    assert cli(*arguments, *options, "--seed", seed).code == 1


CHANGES: dict[str, tuple[tuple[object, ...], Callable[[Path], Any]]] = {
    "unit (token, now word)": (("--unit", "word"), lambda _: None),
    "format (parquet, now jsonl)": (("--format", "jsonl"), lambda _: None),
    "part_rows (5, now 6)": (("--part-rows", 6), lambda _: None),
    "keep_column ([], now": (("--keep-column", "weight"), lambda _: None),
    "text_column (text, now id)": (("--text-column", "id"), lambda _: None),
    "model": (("--model", "demo"), lambda _: None),
    "input (d.jsonl)": ((), lambda folder: (folder / "d.jsonl").write_text('{"text": "a"}\n')),
    "input (b.jsonl and 1 more)": ((), lambda folder: (folder / "b.jsonl").rename(folder / "e.jsonl")),
    "b.jsonl has changed": ((), lambda folder: _replace(folder / "b.jsonl", b"lazy", b"laxy")),
}


def _replace(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize("difference", CHANGES)
def test_another_run_in_the_folder_is_refused_by_name(score: Cli, texts: Path, tmp_path: Path, difference: str) -> None:
    out = tmp_path / "out"
    score("--output", out)
    before = content(out)
    options, change = CHANGES[difference]
    change(texts)
    assert difference in refused(score("--output", out, *options))
    assert content(out) == before
    if "has changed" not in difference:
        replaced = json.loads(score("--output", out, *options, "--force", "--json").out)
        assert replaced["resumed"] == 0


REFUSED: dict[str, tuple[object, ...]] = {
    "--shard 0/3 is not K/N": ("--output", "out", "--shard", "0/3"),
    "--shard 4/3 is not K/N": ("--output", "out", "--shard", "4/3"),
    "--shard 3 is not K/N": ("--output", "out", "--shard", "3"),
    "--part-rows 0 is not a positive integer": ("--output", "out", "--part-rows", "0"),
    "--force would delete the parts of other shards": ("--output", "out", "--force", "--shard", "1/2"),
    "--part-rows needs an --output that is a folder, and --output out.jsonl is a file": ("--output", "out.jsonl"),
    "--part-rows needs an --output that is a folder, and there is no --output": (),
    '"weights"': ("--output", "out", "--keep-column", "weights"),
    '--keep-column "file" has the name of a column of the output': ("--output", "out", "--keep-column", "file"),
    "other has files, such as a.txt, but no _corpus.json": ("--output", "other"),
    "texts/out is inside --input": ("--output", "texts/out"),
    "stride 99 is not in": ("--output", "out", "--stride", "99"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_options_write_nothing(
    score: Cli, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _replace(texts / "b.jsonl", b'"id"', b'"file": 1, "id"')
    (texts / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a", "file": 1}\n'))
    (texts / "c.parquet").unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.txt").write_text("a")
    before = content(tmp_path)
    assert message in refused(score(*REFUSED[message]))
    assert content(tmp_path) == before


def damage(path: Path, how: str) -> None:
    """Damage a part."""
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "cut", "changed"])
def test_verify_names_a_damaged_part_and_a_rerun_restores_it(score: Cli, cli: Cli, tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    score("--output", out)
    before, part = content(out), out / "part-00001.parquet"
    damage(part, how)
    checked = cli("corpus", "verify", out)
    assert checked.code == 1
    assert "part-00001.parquet" in checked.out
    assert "2 of 3 parts verified, with 7 of 12 rows" in checked.out
    if how == "changed":
        part.unlink()  # as the message says
    score("--output", out)
    assert content(out) == before
    (out / "part-00009.parquet").write_bytes(b"")
    assert "part-00009.parquet is not a part of this run" in cli("corpus", "verify", out).out


def test_commands_refuse_what_is_not_an_output(cli: Cli, tmp_path: Path) -> None:
    def outcomes() -> list[Outcome]:
        return [cli("corpus", command, tmp_path) for command in ("status", "verify")]

    assert all("has no _corpus.json" in refused(one) for one in outcomes())
    (tmp_path / "_corpus.json").write_text('{"version": 1}')
    assert all("_corpus.json, the plan of the run, is damaged" in refused(one) for one in outcomes())
    (tmp_path / "_corpus.json").write_text('{"version": 2}')
    assert all("has version 2" in refused(one) for one in outcomes())
    assert "--shards 0" in refused(cli("corpus", "status", tmp_path, "--shards", 0))
