"""`max-gpt2 score` with one text and with a file of texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_gpt2.batch import Totals
from max_gpt2.model import CompiledModel
from max_gpt2.scoring import perplexity
from tests.support.cli import Cli, refused


def test_score_reports_logprobs_and_perplexity(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    result = json.loads(cli("score", "The dog, being lazy", "--model", tiny_original, "--json").out)
    assert result["logprobs"][0] is None
    assert sum(result["logprobs"][1:]) == pytest.approx(result["logprob"])
    assert np.log(result["perplexity"]) == pytest.approx(-result["logprob"] / (len(result["tokens"]) - 1))
    shown = cli("score", "--prompt-ids", ",".join(map(str, result["tokens"])), "--model", tiny_original)
    assert shown.code == 0
    assert f"log probability {result['logprob']:.4f}, perplexity {result['perplexity']:.4f}" in shown.out
    assert "only 1 token" in refused(cli("score", "--model", tiny_original))


TEXTS = ['{"text": "The dog, being lazy", "id": "a"}', '{"prompt_ids": [1, 2, 3]}', '{"text": "Was it the best?"}']


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(TEXTS))
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_and_totals_match_single_scores(cli: Cli, texts: Path, tiny_original: Path) -> None:
    out = texts.with_name("out.jsonl")
    done = cli("score", "--model", tiny_original, "--input", texts, "--output", out, "--json")
    assert done.code == 0
    alone = json.loads(cli("score", "--model", tiny_original, "The dog, being lazy", "--json").out)
    first, second, third = found = records(out)
    assert {name: first[name] for name in alone if name != "model"} == {
        name: value for name, value in alone.items() if name != "model"
    }
    assert (first["id"], first["text"], second["tokens"]) == ("a", "The dog, being lazy", [1, 2, 3])
    result = json.loads(done.out)
    assert result["logprob"] == pytest.approx(sum(one["logprob"] for one in found))
    counted = sum(len(one["tokens"]) - 1 for one in found)
    assert np.log(result["perplexity"]) == pytest.approx(-result["logprob"] / counted)
    assert (result["lines"], result["resumed"], result["errors"], result["tokens"]) == (3, 0, 0, counted + 3)
    out.write_bytes(out.read_bytes()[:-9])  # as after an interruption within the last line
    shown = cli("score", "--model", tiny_original, "--input", texts, "--output", out)
    assert records(out) == [first, second, third]
    assert "3 lines (2 from an earlier run), no errors" in shown.out
    total = f"Total: log probability {result['logprob']:.4f}, perplexity {result['perplexity']:.4f}\n"
    assert shown.out.endswith(total)
    again = cli("score", "--model", tiny_original, "--input", texts, "--output", out)
    assert "already complete" in again.out
    assert again.out.endswith(total)


def test_scores_are_printed_without_an_output(cli: Cli, texts: Path, tiny_original: Path) -> None:
    texts.write_text("\n".join([*TEXTS[:2], '{"text": "T"}', '{"text": "ab", "seed": 3}']))
    outcome = cli("score", "--model", tiny_original, "--input", texts, "--json")
    assert outcome.code == 1
    result = json.loads(outcome.out)
    assert [one["line"] for one in result["records"]] == [1, 2, 3, 4]
    assert "only 1 token" in result["records"][2]["error"]
    assert 'unknown field "seed"' in result["records"][3]["error"]
    assert (result["errors"], result["output"]) == (2, None)
    assert f"error: {texts}, line 3: The text has only 1 token" in outcome.err
    shown = cli("score", "--model", tiny_original, "--input", texts)
    assert shown.code == 1
    for one in result["records"][:2]:
        assert all(text in shown.out for text in (f"{one['logprob']:.4f}", f"{one['perplexity']:.4f}"))
    assert f"Total: log probability {result['logprob']:.4f}" in shown.out
    assert sorted(path.name for path in texts.parent.iterdir()) == ["texts.jsonl"]


def test_no_scored_line_means_no_perplexity(cli: Cli, texts: Path, tiny_original: Path) -> None:
    texts.write_text("{}\n")
    outcome = cli("score", "--model", tiny_original, "--input", texts)
    assert outcome.code == 1
    assert "1 line, 1 error, no tokens." in outcome.out
    assert "perplexity" not in outcome.out.splitlines()[-1]


def test_perplexity_overflows_to_infinity() -> None:
    assert perplexity(-1e6, 2) == float("inf")
    totals = Totals()
    totals.add({"tokens": [1, 2], "logprob": None})
    assert str(totals.perplexity) == "nan"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "in.txt", "A text"], "Both a text and --input are given"),
        (["--output", "out"], "--output needs --input"),
        (["--input", "in.txt", "--output", "in.txt"], "--input and --output are the same file"),
        (
            ["--input", "in.txt", "--output", "old"],
            "old exists, but old.run.json, which identifies its run, is missing",
        ),
    ],
)
def test_bad_arguments_change_no_file(
    cli: Cli, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("The dog\n")
    (tmp_path / "old").write_text("mine\n")
    assert message in refused(cli("score", "--model", tiny_original, *arguments))
    assert (tmp_path / "old").read_text() == "mine\n"
