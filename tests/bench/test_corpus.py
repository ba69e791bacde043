"""The benchmark of corpora gives every mode the same documents and reports its rates correctly."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import corpus
from bench.corpus import LOOP, MODES, ONE, PART, RAY, TWO

FIGURES = {LOOP: [100.0, 200.0, 50.0], ONE: [90.0, 190.0, 60.0], RAY: [80.0, 180.0, 30.0], TWO: [95.0, 100.0, 90.0]}
NOTES: dict[str, Any] = {"measured": "2026-01-02: 2 cores of X", "runs": 3, "documents": 2000, "tokens": 1439360}


def test_parts_have_the_same_lengths_in_another_order() -> None:
    found = corpus.lengths(2000)
    parts = [found[start : start + PART] for start in range(0, 2000, PART)]
    assert {tuple(sorted(part)) for part in parts} == {tuple(sorted(parts[0]))}
    assert len({tuple(part) for part in parts}) > 70
    assert 50 <= min(found) < 60
    assert 2700 < max(found) <= 3000
    assert sorted(parts[0])[PART // 2] == pytest.approx((50 * 3000) ** 0.5, abs=1)
    assert corpus.lengths(100) == found[:100]


def test_documents_have_the_lengths(tiny_original: Path) -> None:
    from max_gpt2.generation import open_model

    sizes = [50, 700, 3000]
    tokenizer = open_model(str(tiny_original)).tokenizer
    for text, size in zip(corpus.documents(tiny_original, sizes), sizes, strict=True):
        assert len(tokenizer.encode(text)) == pytest.approx(size, abs=5)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Replace the processes: each scores 10 tokens a second after 5 seconds; record the inputs and options."""
    called: list[tuple[str, list[str]]] = []

    def tokens(path: Path) -> int:
        return sum(len(json.loads(line)["text"]) for line in path.read_text().splitlines())

    def run_loop(model: Path, path: Path) -> dict[str, float]:
        called.append((path.stem, []))
        return {"tokens": tokens(path), "seconds": tokens(path) / 20}

    def run_corpus(model: Path, path: Path, output: Path, options: list[str]) -> dict[str, float]:
        called.append((path.stem, options))
        output.mkdir()  # fails if it was used before
        (output / "part").write_text(path.read_text())
        return {"tokens": tokens(path), "seconds": 5 + tokens(path) / 10}

    monkeypatch.setattr(corpus, "run_loop", run_loop)
    monkeypatch.setattr(corpus, "run_corpus", run_corpus)
    return called


def test_rates_leave_out_the_start(commands: list[tuple[str, list[str]]], tmp_path: Path) -> None:
    figures = corpus.measure(Path(), ["a" * 300, "b" * 7], runs=2, folder=tmp_path)
    assert figures == {LOOP: [20, 20], **{name: [pytest.approx(10)] * 2 for name in MODES}}
    each = [("whole", []), *((kind, options) for options in MODES.values() for kind in ("short", "whole"))]
    assert commands == [("short", []), *each, *each]


def test_different_bytes_are_an_error(
    commands: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counter = iter(range(10))
    monkeypatch.setattr(corpus, "contents", lambda folder: {"part": b"%d" % next(counter)})
    with pytest.raises(AssertionError, match="has written other bytes"):
        corpus.measure(Path(), ["aaa", "b"], runs=1, folder=tmp_path)


def test_results_have_medians_and_ratios() -> None:
    found = corpus.results(FIGURES, NOTES)
    assert f"| {LOOP} | 100 | 50, 100, 200 |" in found
    assert f"| {ONE} / {LOOP} | 0.95 | at least 0.9 |" in found  # of 0.9, 0.95 and 1.2
    assert f"| {RAY} / {ONE} | 0.89 | at least 0.9 |" in found
    assert f"| {TWO} / {ONE} | 1.06 |  |" in found
    assert "2,000 documents with 1,439,360 tokens, 3 runs." in found


def test_page_matches_the_stored_measurements() -> None:
    path = corpus.LOG / "corpus.json"
    if not path.exists():
        pytest.skip("nothing has been measured yet")
    notes = json.loads(path.read_text())
    assert corpus.results(notes.pop("tokens_per_s"), notes) in (corpus.LOG / "corpus.md").read_text()


@pytest.mark.slow
def test_loop_and_command_score_the_same_tokens(tiny_original: Path, tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    corpus.write_documents(path, corpus.documents(tiny_original, [50, 300]))
    loop = corpus.run_loop(tiny_original, path)
    command = corpus.run_corpus(tiny_original, path, tmp_path / "out", [])
    assert command["tokens"] == loop["tokens"] > 340
    assert set(corpus.contents(tmp_path / "out")) == {
        "_corpus.json",
        "_manifest/part-00000.json",
        "part-00000.parquet",
    }
