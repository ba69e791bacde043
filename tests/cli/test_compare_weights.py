"""`max-gpt2 compare-weights`."""

import json
from pathlib import Path

import pytest

from fixtures.checkpoints import TEXT, write_checkpoint, write_tokenizer
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.checkpoint.gguf_convert import convert_to_gguf
from tests.support.cli import Cli, refused


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    return file


def test_table_has_a_row_for_each_type(
    cli: Cli, tiny_original: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    chosen = ("--weights", "q8_0", "--weights", "q4_0", "--text", text, "--layers")
    outcome = cli("compare-weights", tiny_original, *chosen)
    assert outcome.code == 0
    rows = [line.replace("│", "").split() for line in outcome.out.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows[1:3]] == ["q8_0", "q4_0"]
    assert rows[0][1:4] == ["13", "F32", "0.1"]
    assert rows[1][1:6] == ["10", "F16,", "3", "Q8_0", "0.1"]
    assert [row[0] for row in rows[3:]] == ["h.0", "h.1", "h.2"]
    assert "KL (nats)" in outcome.out
    assert "Measuring q4_0" in outcome.err


def test_json_has_the_measures_of_a_file(cli: Cli, tiny: Path, text: Path, tmp_path: Path) -> None:
    file = convert_to_gguf(tiny, tmp_path / "small.gguf", "q4_0").file
    outcome = cli("compare-weights", tiny, file, "--text", text, "--max-tokens", 20, "--json")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    assert (result["model"], result["text"], result["tokens"], result["windows"]) == (str(tiny), str(text), 19, 1)
    reference, other = result["reports"]
    assert (reference["name"], other["name"], other["weights"]) == (str(tiny), str(file), "auto")
    assert reference["kl_divergence"] == 0 < other["kl_divergence"]
    assert other["types"] == {"F16": 10, "Q4_0": 3}
    assert [set(layer) for layer in other["layers"]] == [{"weights", "hidden_states"}] * 3


def test_default_text_and_types(cli: Cli, tiny_original: Path) -> None:
    result = json.loads(cli("compare-weights", tiny_original, "--max-tokens", 30, "--json").out)
    assert result["text"] is None
    names = [report["weights"] for report in result["reports"]]
    assert names == ["auto", "bfloat16", "float16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "int8"], "'int8' is unknown"),
        (["--max-tokens", "1"], "--max-tokens 1 leaves no token to predict"),
        (["--text", "missing.txt"], "missing.txt cannot be read"),
        (["./nothing"], '"./nothing" does not exist'),
    ],
)
def test_bad_arguments_are_rejected(cli: Cli, tiny_original: Path, arguments: list[str], message: str) -> None:
    error = refused(cli("compare-weights", tiny_original, *arguments))
    assert message in error
    assert "Measuring" not in error


def test_other_tokenizers_and_models_are_refused(cli: Cli, tiny: Path, text: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other")
    write_tokenizer(other, size=290)
    assert "encodes the text to other ids" in refused(cli("compare-weights", tiny, other, "--text", text))
    other = write_checkpoint(tmp_path / "smaller", n_layer=2)
    error = refused(cli("compare-weights", tiny, other, "--text", text))
    assert f"{other} has n_layer 2, and {tiny} has 3" in error
    assert "verify --against" in error


def test_one_token_is_no_text(cli: Cli, tiny_original: Path, tmp_path: Path) -> None:
    token = next(iter(load_checkpoint(tiny_original).tokenizer.decode([5])))
    (tmp_path / "short.txt").write_text(token)
    error = refused(cli("compare-weights", tiny_original, "--text", tmp_path / "short.txt"))
    assert "The text has 1 tokens. Give one with at least 2." in error
