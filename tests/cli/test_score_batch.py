"""`max-gpt2 score --input ... --output ...`."""

import csv
import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from max_gpt2.batch import Line
from max_gpt2.batch.score import make_scorer, table_schema
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.generation import open_model
from max_gpt2.scoring import ScoreOptions, Scorer, load_scorer, perplexity, score_texts
from tests.support.cli import Cli, refused

LINES = [
    '{"text": "The dog,\\t\\"being\\" lazy\\n", "id": "a"}',
    '{"prompt_ids": [1, 2, 3]}',
    '{"text": "Was it 🌍 the best?", "id": 7}',
]
BROKEN = ["{broken", '{"text": "ab", "seed": 3, "id": "s"}', '{"text": "\\ud800"}', '{"prompt_ids": [999]}']
PROBLEMS = ["The line is not JSON", 'unknown field "seed"', "not valid Unicode", "999 is not in 0 .. 310"]
SUFFIXES = (".jsonl", ".tsv", ".parquet")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(LINES))
    return path


@pytest.fixture
def score(cli: Cli, tiny_original: Path) -> Cli:
    return lambda *arguments: cli("score", "--model", tiny_original, *arguments)


@pytest.fixture(scope="module")
def scorer(tiny_original: Path) -> Scorer:
    return load_scorer(open_model(tiny_original))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_records_and_totals_match_single_scores(score: Cli, texts: Path) -> None:
    out = texts.with_name("out.jsonl")
    done = score("--input", texts, "--output", out, "--json")
    assert done.code == 0
    alone = json.loads(score('The dog,\t"being" lazy\n', "--json").out)
    del alone["model"]
    first, second, third = found = records(out)
    assert first == {"line": 1, "id": "a", **alone}
    assert (second["tokens"], "id" in second, third["id"]) == ([1, 2, 3], False, 7)
    result, counted = json.loads(done.out), sum(one["counted"] for one in found)
    assert result["logprob"] == pytest.approx(sum(one["logprob"] for one in found))
    assert result["perplexity"] == pytest.approx(perplexity(result["logprob"], counted))
    length = sum(len(one["text"].encode()) for one in found)
    bits = sum(one["bits_per_byte"] * len(one["text"].encode()) for one in found)
    assert result["bits_per_byte"] == pytest.approx(bits / length)
    assert (result["lines"], result["resumed"], result["errors"], result["tokens"]) == (3, 0, 0, counted)
    out.write_bytes(out.read_bytes()[:-9])  # as after an interruption within the last line
    shown = score("--input", texts, "--output", out)
    assert records(out) == found
    assert "3 lines (2 from an earlier run), no errors" in shown.out
    total = (
        f"Total: {counted} tokens, log probability {result['logprob']:.4f}, perplexity {result['perplexity']:.4f}, "
        f"bits per byte {result['bits_per_byte']:.4f}\n"
    )
    assert shown.out.endswith(total)
    again = score("--input", texts, "--output", out)
    assert "already complete" in again.out
    assert "Loading" not in again.err
    assert again.out.endswith(total)


def test_scores_are_printed_without_an_output(score: Cli, texts: Path) -> None:
    texts.write_text("\n".join([*LINES[:2], '{"text": ""}', BROKEN[1]]))
    outcome = score("--input", texts, "--json", "--base", "10")
    assert outcome.code == 1
    result = json.loads(outcome.out)
    assert [one["line"] for one in result["records"]] == [1, 2, 3, 4]
    assert (result["records"][2]["counted"], result["records"][2]["perplexity"]) == (0, None)
    assert 'unknown field "seed"' in result["records"][3]["error"]
    assert (result["errors"], result["output"], result["base"]) == (1, None, "10")
    assert f"error: {texts}, line 4: Invalid line" in outcome.err
    shown = score("--input", texts, "--base", "10")
    assert shown.code == 1
    for one in result["records"][:2]:
        assert all(text in shown.out for text in (f"{one['logprob']:.4f}", f"{one['perplexity']:.4f}"))
    assert f"log probability {result['logprob']:.4f} (base 10), perplexity" in shown.out
    assert [path.name for path in texts.parent.iterdir()] == ["texts.jsonl"]


def test_no_scored_line_means_no_perplexity(score: Cli, texts: Path) -> None:
    texts.write_text("{}\n")
    outcome = score("--input", texts)
    assert outcome.code == 1
    assert outcome.out.endswith("1 line, 1 error, no tokens.\n")


@pytest.mark.parametrize("unit", ["token", "word"])
def test_tables_have_the_units_of_the_records(score: Cli, texts: Path, unit: str) -> None:
    texts.write_text("\n".join([*LINES, '{"text": "", "id": "empty"}']))
    options = ["--unit", unit, "--ranks", "--entropy", "--top", 2, "--no-bos", "--input", texts]
    texts.write_text("\n".join(LINES))
    jsonl, tsv, parquet = (texts.with_name(f"out{suffix}") for suffix in SUFFIXES)
    for out in (jsonl, tsv, parquet):
        assert score(*options, "--output", out).code == 0
    expected = [
        {"line": one["line"], "id": None if "id" not in one else str(one["id"])}
        | ({"token_id": row.pop("id")} if unit == "token" else {})
        | row
        for one in records(jsonl)
        for row in one["units"]
    ]
    assert expected[0]["logprob"] is None if unit == "token" else expected[0]["rank"] is None
    assert rows(parquet) == expected
    as_text = [
        {
            name: "" if value is None else json.dumps(value, ensure_ascii=False) if name == "top" else str(value)
            for name, value in row.items()
        }
        for row in expected
    ]
    assert rows(tsv) == as_text
    names = list(
        table_schema(ScoreOptions(unit="token" if unit == "token" else "word", ranks=True, entropy=True, top=2))
    )
    assert pq.read_schema(parquet).names == tsv.read_text().splitlines()[0].split("\t") == names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_broken_lines_are_reported_and_the_others_complete(score: Cli, texts: Path, suffix: str) -> None:
    whole, out = texts.with_name(f"whole{suffix}"), texts.with_name(f"out{suffix}")
    assert score("--input", texts, "--output", whole).code == 0
    texts.write_text("\n".join([*BROKEN[:2], LINES[0], *BROKEN[2:], *LINES[1:], "}"]))
    done = score("--input", texts, "--output", out)
    assert done.code == 1
    for number, problem in zip((1, 2, 4, 5), PROBLEMS, strict=True):
        assert any(f"line {number}: " in line and problem in line for line in done.err.splitlines())
    assert f"{out}: 8 lines, 5 errors" in done.out
    failed = records(out if suffix == ".jsonl" else texts.with_name(f"out{suffix}.errors.jsonl"))
    assert [one["line"] for one in failed if "error" in one] == [1, 2, 4, 5, 8]
    assert failed[1]["id"] == "s"
    numbers = {1: 3, 2: 6, 3: 7}
    read = records if suffix == ".jsonl" else rows
    scored = [one for one in read(out) if "error" not in one]
    assert scored == [one | {"line": type(one["line"])(numbers[int(one["line"])])} for one in read(whole)]
    if suffix != ".jsonl":
        assert f"The lines with errors are in {out}.errors.jsonl." in done.out
    content = out.read_bytes()
    again = score("--input", texts, "--output", out)
    assert (again.code, out.read_bytes()) == (1, content)
    assert "8 lines, already complete, 5 errors" in again.out
    assert "Loading" not in again.err


def test_parquet_input_has_named_columns(score: Cli, tmp_path: Path) -> None:
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    sentences = ["The dog", None, "Was it\tthe best?"]
    pq.write_table(pa.table({"sentence": sentences, "key": ["x", "y", "z"], "n": [1, 2, 3]}), path)
    assert 'has no column "text". Its columns are sentence, key, n' in refused(score("--input", path, "--output", out))
    named = ["--input", path, "--text-column", "sentence", "--output", out]
    assert 'has no column "nokey"' in refused(score(*named, "--id-column", "nokey"))
    assert 'The column "n" of' in refused(score("--input", path, "--text-column", "n", "--output", out))
    assert [one.name for one in tmp_path.iterdir()] == ["in.parquet"]
    done = score(*named, "--id-column", "key", "--unit", "text")
    assert done.code == 1
    assert 'line 2: The column "sentence" is null' in done.err
    assert [(row["line"], row["id"], row["text"]) for row in rows(out)] == [(1, "x", "The dog"), (3, "z", sentences[2])]
    assert "a different id_column (key, now None)" in refused(score(*named, "--unit", "text"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_output_of_a_different_run_is_refused_by_name(score: Cli, texts: Path, suffix: str) -> None:
    out = texts.with_name(f"out{suffix}")
    arguments = ["--input", texts, "--output", out]
    assert score(*arguments).code == 0
    content = out.read_bytes()
    for option, named in {
        ("--no-bos",): "bos (True, now False)",
        ("--unit", "word"): "unit (token, now word)",
        ("--base", "2"): "base (e, now 2)",
        ("--window", "9"): "window (67, now 9) and a different stride (33, now 4)",
        ("--stride", "9"): "stride (33, now 9)",
        ("--ranks",): "ranks (False, now True)",
        ("--entropy",): "entropy (False, now True)",
        ("--top", "1"): "top (0, now 1)",
        ("--word-boundary-correction",): "word_boundary_correction (False, now True)",
    }.items():
        assert f"a different {named}. Choose another" in refused(score(*arguments, *option))
    assert "already complete" in score(*arguments, "--window", 67, "--stride", 33).out
    texts.write_text("\n".join(LINES[:2]))
    assert "a different input" in refused(score(*arguments))
    assert out.read_bytes() == content
    assert score(*arguments, "--force", "--unit", "text").code == 0
    assert len((records if suffix == ".jsonl" else rows)(out)) == 2
    files = {f"out{suffix}", f"out{suffix}.run.json", "texts.jsonl"}
    assert {path.name for path in texts.parent.iterdir()} == files


def test_compressed_files_of_a_glob_are_one_input(score: Cli, tmp_path: Path) -> None:
    for name, lines in (("b", LINES[1:]), ("a", [LINES[0], "", BROKEN[0]])):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    out, plain = tmp_path / "out.jsonl", tmp_path / "plain.jsonl"
    assert score("--input", f"{tmp_path}/*.jsonl.gz", "--output", out).code == 1
    plain.write_text("\n".join([LINES[0], BROKEN[0], *LINES[1:]]))
    assert score("--input", plain, "--output", tmp_path / "plain.out.jsonl").code == 1
    assert out.read_bytes() == (tmp_path / "plain.out.jsonl").read_bytes()
    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:2]))
    assert "4 lines (2 from an earlier run)" in score("--input", f"{tmp_path}/*.jsonl.gz", "--output", out).out
    assert out.read_bytes() == (tmp_path / "plain.out.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "in.txt", "A text"], "Both a text and --input are given"),
        (["--output", "out.tsv"], "--output needs --input"),
        (["--force"], "--force needs --output"),
        (["--input", "in.txt", "--output", "in.txt"], "--input and --output are the same file"),
        (["--input", "in.txt", "--output", "out.csv"], "none of .jsonl, .tsv and .parquet"),
        (["--input", "in.csv"], "none of .jsonl, .ndjson, .json (JSON lines), .txt, .parquet"),
        (["--input", "no.parquet"], "--input no.parquet does not exist"),
        (["--input", "bad.parquet"], "--input bad.parquet cannot be read (Parquet file size is 4 bytes"),
        (["--input", "*.tsv"], "--input *.tsv matches no file that is one of .jsonl"),
        (["--input", "none*"], "--input none* matches no file. Check the pattern"),
        (
            ["--input", ".", "--output", "new.jsonl"],
            "--output new.jsonl is inside --input ..",
        ),
        (["--input", "*.jsonl", "--output", "new.jsonl"], "--output new.jsonl is inside --input *.jsonl"),
        (["--input", "in.txt", "--text-column", "a"], "in.txt is plain text, which has no columns"),
        (["--input", "in.txt", "--output", "no/out.tsv"], "the folder no does not exist"),
        (["--input", "in.txt", "--output", "old.jsonl"], "old.jsonl exists, but old.jsonl.run.json"),
        (["--input", "in.txt", "--output", "old.tsv"], "old.tsv exists, but old.tsv.run.json"),
        (["--input", "in.txt", "--output", "new.tsv", "--stride", "99"], "stride 99 is not in 1 .. 67"),
    ],
)
def test_bad_arguments_change_no_file(
    score: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"in.txt": "The dog\n", "in.csv": "a\n", "bad.parquet": "PAR1", "old.jsonl": "mine\n", "old.tsv": "mine"}
    for name, content in contents.items():
        Path(name).write_text(content)
    assert message in refused(score(*arguments))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == contents


MANY = 200
#: A command line that scores few texts at once: a kill then finds a part of the lines written.
MAIN = (
    "import max_gpt2.scoring.run as run, max_gpt2.cli as cli; run.read_ahead_tokens = lambda top: 100; cli.main()",
    "score",
)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"The lazy dog, being {number} times the best of {number}\n" for number in range(MANY)))
    return path


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_interrupted_run_resumes_to_the_same_bytes(
    score: Cli, many: Path, tiny_original: Path, suffix: str, how: signal.Signals
) -> None:
    out, whole = many.with_name(f"out{suffix}"), many.with_name(f"whole{suffix}")
    growing = out if suffix == ".jsonl" else many.with_name(f".out{suffix}.work.jsonl")
    options = ["--input", str(many), "--unit", "word"]
    command = [sys.executable, "-c", *MAIN, "--model", str(tiny_original), *options, "--output", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        while process.poll() is None and not (growing.exists() and growing.read_bytes().count(b"\n") > 5):
            time.sleep(0.01)
        process.send_signal(how)
        _, err = process.communicate(timeout=30)
    lines = len(growing.read_text().splitlines())
    assert 5 < lines < MANY
    assert "Traceback" not in err
    if how is signal.SIGINT:
        assert process.returncode == 2
        assert f"Stopped by Ctrl-C after {lines} of {MANY} lines. They are in {growing}" in err
    done = score(*options, "--output", out, "--json")
    assert json.loads(done.out)["resumed"] in (lines, lines - 1)  # the last line may be incomplete
    assert score(*options, "--output", whole).code == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not [path for path in many.parent.iterdir() if path.name.startswith(".")]


def test_rows_do_not_depend_on_the_other_lines(score: Cli, tmp_path: Path) -> None:
    rng = random.Random(3)
    words = ["The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "🌍", "日本語", "\t", "\n"]
    lines = [
        json.dumps({"id": number, "text": " ".join(rng.choices(words, k=rng.choice([1, 3, 9, 40, 150])))})
        for number in range(40)
    ]
    found: list[dict[int, dict[str, Any]]] = []
    for name, order in {"one": lines, "two": rng.sample(lines, len(lines)), "few": lines[17:19]}.items():
        source, out = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.out.jsonl"
        source.write_text("\n".join(order))
        assert score("--input", source, "--output", out, "--ranks", "--entropy", "--top", 2).code == 0
        found.append({one["id"]: {**one, "line": 0} for one in records(out)})
    assert found[0] == found[1]
    assert found[2] == {number: found[0][number] for number in (17, 18)}


def test_lines_are_scored_lazily_and_in_order(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_gpt2.batch.score._MOST_WAITING", 50)
    read = itertools.count(1)

    def endless() -> Iterator[Line]:
        for number in read:
            yield Line(number, {"text": f"dog {number}"}) if number % 3 else Line(number, problem="Broken.")

    process = make_scorer(scorer, ScoreOptions().resolve(scorer.config))
    first = list(itertools.islice(process(endless()), 300))
    assert [one["line"] for one in first] == list(range(1, 301))
    assert all(("error" in one) == (one["line"] % 3 == 0) for one in first)
    assert next(read) < 400
    broken = (Line(number, problem="Broken.") for number in itertools.count(1))
    assert len(list(itertools.islice(process(broken), 1000))) == 1000


def test_score_of_a_file_equals_score_texts(
    score: Cli, scorer: Scorer, many: Path, tiny_checkpoint: Checkpoint
) -> None:
    del tiny_checkpoint
    out = many.with_name("out.jsonl")
    many.write_text("".join(many.read_text().splitlines(keepends=True)[:20]))
    assert score("--input", many, "--output", out, "--base", "2").code == 0
    expected = score_texts(scorer, many.read_text().splitlines(), ScoreOptions(base="2"))
    for one, scored in zip(records(out), expected, strict=True):
        assert not isinstance(scored, Exception)
        assert one["units"] == scored.rows()
