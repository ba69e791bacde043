"""The benchmark of traces gives every implementation the same work and reports it correctly."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from bench import trace
from bench.implementation import Process
from bench.page import OURS, REFERENCE, Row
from bench.trace import EAGER, EVERYTHING, MEASURES, differences, implementations, results


class Clock:
    """A fake process: a millisecond per token."""

    def trace(self, ids: list[int], what: str) -> dict[str, Any]:
        assert what in ("blocks", "logits", "everything")
        return {"seconds": len(ids) / 1000}


def test_measures_trace_100_tokens() -> None:
    for measure in (*MEASURES, EVERYTHING):
        assert measure.take(cast(Process, Clock())) == pytest.approx(100)
        assert "100 tokens" in measure.name


def test_table_has_medians_of_ratios_and_differences() -> None:
    figures: dict[str, list[float]] = {OURS: [10, 20, 40], REFERENCE: [20, 30, 40], EAGER: [30, 80, 80]}
    rows = [Row("gpt2", MEASURES[0], figures), Row("gpt2", EVERYTHING, {OURS: [10], EAGER: [25]})]
    notes = {"measured": "M", "runs": 3, "differences": {OURS: {"logits": 1e-6, "blocks": 2e-7}}}
    found = results(rows, notes, {"TransformerLens": "it cannot be installed"})
    assert "| | transformers | transformers, eager |\n" in found
    assert "| outputs of all blocks, 100 tokens | 1.50 | 3.00 |\n" in found
    assert "| everything, 100 tokens |  | 2.50 |" in found
    assert "| max-gpt2 | 1.0e-06 | 2.0e-07 |" in found
    assert found.endswith("TransformerLens was skipped: it cannot be installed")


@pytest.mark.slow
def test_implementations_return_the_same_activations(tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "TOKENS", 20)
    found = differences(implementations(tiny_original))
    assert found.keys() == {OURS, REFERENCE}
    assert max(max(values.values()) for values in found.values()) < 1e-4
    for one in implementations(tiny_original):
        with one.start() as process:
            assert process.trace([1, 2, 3], "blocks")["seconds"] > 0
            if one.name != REFERENCE:
                process.trace([1, 2, 3], "everything")


def test_differences_are_the_largest_of_the_shared_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arrays = {"ours": np.zeros((3, 4)), "reference": np.full((2, 4), 0.25)}

    class Running:
        def __init__(self, module: str) -> None:
            self.module = module

        def __enter__(self) -> "Running":
            return self

        def __exit__(self, *_: object) -> None: ...

        def trace(self, _ids: list[int], what: str, save: Path) -> None:
            assert what == "logits"
            np.savez(save, logits=np.arange(5) * (self.module == "ours"), blocks=arrays[self.module])

    monkeypatch.setattr("bench.implementation.Implementation.start", lambda self: Running(self.module))
    ours, _, eager = implementations(tmp_path)
    assert differences([ours, eager]) == {OURS: {"logits": 4.0, "blocks": 0.25}}
