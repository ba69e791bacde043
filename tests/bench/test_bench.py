"""That the benchmarks do the same work on all sides and write down what they found; how fast it is, is no test."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from bench import measures, page
from bench.bandwidth import bytes_a_token
from bench.load import measure
from bench.measures import Measure, decode, prefill, start
from bench.page import Row
from bench.side import Process, Side
from bench.speed import compare, sides_of
from max_gpt2.config import SIZES
from max_gpt2.model import CompiledModel


class Clock:
    """A side that takes so many seconds for each id that it writes, and one for each prompt."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked = seconds, list[tuple[int, int, int]]()

    def ask(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        self.asked.append((len(prompts), len(prompts[0]), new))
        return {"seconds": len(prompts) + self.seconds * (new - 1)}


def test_what_is_measured() -> None:
    clock = Clock(0.5)
    assert decode(8, 16, "d").take(cast(Process, clock)) == pytest.approx(16)
    assert prefill(64).take(cast(Process, clock)) == pytest.approx(1000)
    assert clock.asked == [(8, 16, 1), (8, 16, 65), (1, 64, 1)]
    assert decode(1, 16, "d").ratio(30, 20) == prefill(9).ratio(20, 30) == 1.5
    first, second = measures.prompts(3, 5), measures.prompts(3, 5)
    assert first != second
    assert [len(row) for row in first + second] == [5] * 6


def test_all_sides_read_and_write_the_same(tiny: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    answers = []
    for side in sides_of(tiny):
        with side.start() as process:
            answers.append([process.ask([[5, 6, 7], [9, 8, 7]], new) for new in (1, 9)])
    for ours, theirs in zip(*answers, strict=True):
        assert ours["tokens"] == theirs["tokens"]
        assert ours["seconds"] > 0
        assert ours["peak_bytes"] > 2**26


def test_the_sides_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    figures = {"a": iter([100.0, 3.0, 1.0, 2.0]), "b": iter([0.0, 5.0, 6.0, 9.0])}

    class Running:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> "Running":
            return self

        def __exit__(self, *_: object) -> None:
            turns.append(f"end of {self.name}")

    def take(side: Any) -> float:
        turns.append(side.name)
        return next(figures[side.name])

    monkeypatch.setattr(Side, "start", lambda self: Running(self.name))
    sides = [Side("a", "", Path()), Side("b", "", Path())]
    (row,) = compare("gpt2", sides, [Measure("m", "s", False, take)], 3)
    assert turns == ["a", "b"] * 4 + ["end of b", "end of a"]
    assert (row.median("a"), row.median("b")) == (2.0, 6.0)


def test_a_side_that_ends_is_named(tmp_path: Path) -> None:
    with Side("nobody", "no_such_side", tmp_path).start() as process, pytest.raises(RuntimeError, match="nobody ended"):
        process.ask([[1]], 1)


def test_the_page_the_json_and_the_plot(tmp_path: Path) -> None:
    fast, slow = decode(1, 16, measures.MEASURES[0].name), prefill(64)
    rows = [
        Row("gpt2", fast, {"max-gpt2": [40, 30, 50], "transformers": [20, 20, 25], "other": [10, 10]}),
        Row("gpt2", slow, {"max-gpt2": [40], "transformers": [60]}),
    ]
    notes = {"runs": 3.0, "bandwidth_bytes_per_s": 40.0 * bytes_a_token(SIZES["gpt2"]), "first_compile_s": 21.0}
    found = page.figures(rows, notes, {"llama.cpp": "it does not build"})
    assert "| | max-gpt2 | transformers | other |\n" in found
    assert "| gpt2: decode, batch 1 | 40.0 tokens/s (2.00) | 20.0 tokens/s | 10.0 tokens/s (0.50) |\n" in found
    assert "| gpt2: prefill, 64 tokens | 40.0 ms (1.50) | 60.0 ms |  |\n" in found
    assert "max-gpt2 writes gpt2 (batch 1) with 100 %" in found
    assert "after 21.0 s" in found
    assert found.endswith("llama.cpp was left out: it does not build")
    once = page.updated("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n", found)
    assert once == page.updated(once, found)
    assert (once.startswith("before\n"), once.endswith("\nafter\n"), "old" in once) == (True, True, False)
    page.write_json(tmp_path / "a.json", rows, notes)
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["rows"][0]["ratios"] == {"max-gpt2": 2.0, "transformers": 1.0, "other": 0.5}
    page.plot(tmp_path / "a.png", rows)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_weights_that_a_token_needs() -> None:
    config = SIZES["gpt2"]
    assert bytes_a_token(config) == 4 * (124_439_808 - config.n_positions * config.n_embd)


def test_a_start_is_measured_in_a_process_of_its_own(tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    seconds, peak = start(Side("max-gpt2", "ours", tiny_original))
    assert 0.2 < seconds < 60
    assert 64 < peak < 4096


def test_both_sides_load_the_same_weights(tiny_original: Path) -> None:
    ours, theirs = (measure(side, str(tiny_original)) for side in ("max-gpt2", "transformers"))
    assert ours["sum"] == pytest.approx(theirs["sum"], rel=1e-4)
    assert 0 < ours["load_s"] <= ours["used_s"]
