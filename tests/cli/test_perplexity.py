"""`max-gpt2 perplexity`; tests/scoring/test_protocols.py compares its numbers with other programs."""

import json
import math
from pathlib import Path

import pytest

from fixtures.checkpoints import TEXT, edit_weights
from tests.book.pages import ROOT, blocks
from tests.support.cli import Cli, refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(f"{TEXT}\n{TEXT}\r\n\n".encode())
    return path


def test_json_has_every_protocol(cli: Cli, file: Path, tiny_original: Path) -> None:
    result = json.loads(cli("perplexity", file, "--model", tiny_original, "--window", 16, "--json").out)
    assert (result["words"], result["bytes"]) == (len(TEXT.split()) * 2 + 1, 2 * len(TEXT) + 4)
    assert len({one["perplexity"] for one in result["results"]}) == len(result["results"]) == 6
    assert result["skipped"] == {}
    for one in result["results"]:
        assert one["perplexity"] == pytest.approx(math.exp(one["nll"] / one["count"]))
        assert one["stride"] == (8 if one["protocol"] == "strided" else 16)
        options = ("--model", tiny_original, "--window", 16, "--protocol", one["protocol"])
        assert one in json.loads(cli("perplexity", file, *options, "--json").out)["results"]


def test_table_shows_what_counts(cli: Cli, file: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_gpt2.cli.console.stdout._width", 80)
    result = json.loads(cli("perplexity", file, "--model", tiny_original, "--json").out)
    shown = cli("perplexity", file, "--model", tiny_original).out
    for one in result["results"]:
        assert f"{one['perplexity']:.6g}" in shown
        assert f"  {one['protocol']}: {one['scored_tokens']:,}, " in shown
    assert result["skipped"].keys() == {"llama.cpp"}  # 2 * 67 tokens
    assert "llama.cpp: not computed. The text has " in shown
    assert "needs at least 134. Choose a smaller --window, or give a longer text." in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "bits"], "'bits' is not one of 'all', 'disjoint'"),
        (["--stride", 0], "The stride 0 is not in 1 .. 67, the window"),
        (["--stride", 9, "--window", 8], "The stride 9 is not in 1 .. 8, the window"),
        (["--window", 68], "The window 68 is not in 1 .. 67, the context of the model"),
        (["--window", 0], "The window 0 is not in 1 .. 67"),
        (["--window", 2, "--protocol", "llama.cpp"], "The window 2 has no token to count with llama.cpp"),
        (["--window", 1, "--protocol", "strided"], "The window 1 has no token to count with strided. Use 2 or more"),
        (["--protocol", "rolling", "--no-bos"], "The protocol rolling always adds a BOS token. Remove --no-bos"),
        (["--protocol", "disjoint", "--stride", 8], "The stride of the protocol disjoint is its window"),
        (["--protocol", "llama.cpp"], "llama.cpp with a window of 67 needs at least 134. Choose a smaller --window"),
    ],
)
def test_bad_options_are_refused(
    cli: Cli, file: Path, tiny_original: Path, options: list[object], message: str
) -> None:
    assert message in refused(cli("perplexity", file, "--model", tiny_original, *options))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", [], "is empty, so it has no perplexity"),
        (b"The \xff", [], "is not valid UTF-8 at byte 4"),
        (
            b"T",
            ["--protocol", "strided"],
            "The text has 1 token, but strided with a window of 67 needs at least 2. Add",
        ),
        (None, [], "cannot be read (No such file or directory)"),
        ("folder", [], "cannot be read (Is a directory)"),
    ],
)
def test_bad_files_are_refused(
    cli: Cli, tmp_path: Path, tiny_original: Path, content: bytes | str | None, options: list[str], message: str
) -> None:
    path = tmp_path / "bad.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    assert message in refused(cli("perplexity", path, "--model", tiny_original, *options))


def test_one_token_has_a_perplexity_with_bos(cli: Cli, tmp_path: Path, tiny_original: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("T")
    result = json.loads(cli("perplexity", path, "--model", tiny_original, "--bos", "--json").out)
    found = {one["protocol"]: one["nll"] for one in result["results"]}
    assert found["rolling"] == found["strided"] > 0
    assert result["skipped"].keys() == {"disjoint", "llama.cpp"}


def test_logits_that_are_not_finite_are_named(cli: Cli, file: Path, tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors["transformer.wte.weight"].fill(float("nan")))
    message = refused(cli("perplexity", file, "--model", tiny, "--allow-nonfinite"))
    assert "The model's logits are not finite for this text" in message


def test_page_shows_the_output(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers may differ in the last digit on another machine."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("max_gpt2.cli.console.stdout._width", 80)
    page = blocks((ROOT / "docs" / "perplexity.md").read_text())
    command, shown = next((one.text.split(), one.output) for one in page if one.output)
    found = cli(*command[1:]).out
    assert len(found.split()) == len((shown or "").split())
    for ours, printed in zip(found.split(), (shown or "").split(), strict=True):
        assert ours == printed or float(ours) == pytest.approx(float(printed), rel=1e-3)
