"""The benchmark of scoring gives every implementation the same work and reports it correctly."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bench import page, score, summary
from bench.implementation import Implementation, Process
from bench.measures import SCORING, decode
from bench.page import OURS, PRODUCTS, REFERENCE, Row
from bench.peers import SCORING_PEERS, Peer, peers
from max_gpt2.config import SIZES

NOTES = {
    "measured": "2026-01-02: 2 cores of X, Python 3.11.7",
    "runs": 3,
    "bandwidth_bytes_per_s": 40e9,
    "peak_operations_per_s": 230e9,
    "operations_per_token": 2.5e8,
    "differences": {OURS: 2e-6},
}


def rows() -> list[Row]:
    figures = {OURS: [300.0, 200.0, 80.0], PRODUCTS: [330.0, 250.0, 80.0], REFERENCE: [100.0, 50.0, 40.0]}
    return [Row("gpt2", measure, figures | {"minicons": [75.0, 50.0, 20.0]}) for measure in SCORING]


def test_scoring_counts_the_tokens_that_have_a_logprob() -> None:
    asked: list[list[list[int]]] = []

    def answer(texts: list[list[int]]) -> dict[str, Any]:
        asked.append(texts)
        return {"seconds": 0.5}

    process = cast(Process, SimpleNamespace(score=answer))
    assert [measure.take(process) for measure in SCORING] == [2 * 2 * 1000, 2 * 16 * 128, 2 * 85 * 24]
    assert [(len(texts), {len(text) for text in texts}) for texts in asked] == [(2, {1001}), (16, {129}), (85, {25})]
    SCORING[0].take(process)
    assert asked[0] != asked[-1]


def test_ratio_of_a_paired_measure_is_the_median_of_the_ratios() -> None:
    paired, plain = rows()[0], Row("gpt2", decode(1, 1, "d"), rows()[0].figures)
    assert paired.ratio(OURS) == 3.0  # of 3, 4 and 2
    assert plain.ratio(OURS) == 200 / 50
    assert paired.ratio(PRODUCTS, OURS) == pytest.approx(1.1)  # of 1.1, 1.25 and 1


def test_products_have_the_operations_of_gpt2() -> None:
    # 12 blocks of 12 * 768 ** 2 weights, and the tied head.
    assert score.operations(SIZES["gpt2"]) == 2 * (12 * 12 * 768**2 + 50257 * 768)


def test_results_and_summary_show_ratios_and_reasons(tmp_path: Path) -> None:
    found = score.results(rows(), NOTES, {"llama.cpp": "it does not build"})
    assert f"| | {OURS} | {PRODUCTS} | {REFERENCE} | minicons |\n" in found
    name = "scoring, 1,000 tokens a text"
    cells = ["200 tokens/s (3.00)", "250 tokens/s (3.30)", "50.0 tokens/s", "50.0 tokens/s (0.75)"]
    assert f"| gpt2: {name} | {' | '.join(cells)} |" in found
    assert f"- {name}: 62 GFLOP/s, 1.10" in found
    assert "230 GFLOP/s" in found
    assert f"{OURS} 2.0e-06." in found
    assert found.endswith("llama.cpp was skipped: it does not build")
    table = summary.scoring_summary(rows(), NOTES)
    assert "| 1,000 | 200 tokens/s | 3.00 | 4.00 | 1.10 |" in table
    assert "2026-01-02: 2 cores of X" in table
    page.write_json(tmp_path / "scoring.json", rows(), NOTES)
    assert score.results(*page.read_json(tmp_path / "scoring.json"), {"llama.cpp": "it does not build"}) == found


def test_pages_match_the_stored_measurements() -> None:
    rows, notes = page.read_json(summary.LOG / "scoring.json")
    assert score.results(rows, notes, {}) in (summary.LOG / "scoring.md").read_text()
    assert summary.scoring_summary(rows, notes) in (summary.DOCS / "performance.md").read_text()


@pytest.mark.slow
def test_texts_are_scored_like_transformers(tiny: Path) -> None:
    ours, reference = (one for one in score.implementations(tiny) if one.name != PRODUCTS)
    assert (ours.name, reference.name) == (OURS, REFERENCE)
    assert score.differences([ours, reference])[OURS] < 1e-4


def test_differences_are_the_largest_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    class Running:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> "Running":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def score(self, texts: list[list[int]]) -> dict[str, Any]:
            assert self.name != PRODUCTS
            scores = np.zeros((len(texts), len(texts[0]) - 1))
            scores[1, 2] = {"low": -0.25, "high": 0.5, REFERENCE: 0.0}[self.name]
            return {"output": scores.tolist()}

    monkeypatch.setattr(Implementation, "start", lambda self: Running(self.name))
    compared = [Implementation(name, "", Path()) for name in ("low", PRODUCTS, REFERENCE, "high")]
    assert score.differences(compared) == {"low": 0.25, "high": 0.5}


def test_peers_that_cannot_be_installed_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [peer.name for peer in SCORING_PEERS] == ["minicons", "llama.cpp"]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    broken = Peer("nothing", "nothing_", ("no-such-package-of-max-gpt2",), converts=False)
    found, skipped = peers(tmp_path / "peers", tmp_path, [broken], "load_scorer")
    assert found == []
    assert "could not be installed" in skipped["nothing"]
    assert "no-such-package" in (tmp_path / "peers" / "nothing_.log").read_text()
