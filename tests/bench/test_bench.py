"""The benchmarks give every implementation the same work and report it correctly; no test depends on speed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from bench import measures, page, summary
from bench.bandwidth import bytes_per_token
from bench.implementation import Implementation, Process
from bench.load import measure
from bench.measures import Measure, decode, prefill, start
from bench.page import Row
from bench.page_cache import evict
from bench.speed import compare, implementations
from max_gpt2.config import SIZES
from max_gpt2.model import CompiledModel


class Clock:
    """A fake process: one second per prompt, and `seconds` per token after the first."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, list[tuple[int, int, int]]()

    def generate(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        self.calls.append((len(prompts), len(prompts[0]), new))
        return {"seconds": len(prompts) + self.seconds * (new - 1)}


def test_measures_count_tokens_after_the_first() -> None:
    clock = Clock(0.5)
    assert decode(8, 16, "d").take(cast(Process, clock)) == pytest.approx(16)
    assert prefill(64).take(cast(Process, clock)) == pytest.approx(1000)
    assert clock.calls == [(8, 16, 1), (8, 16, 65), (1, 64, 1)]
    assert decode(1, 16, "d").ratio(30, 20) == prefill(9).ratio(20, 30) == 1.5
    first, second = measures.prompts(3, 5), measures.prompts(3, 5)
    assert first != second
    assert [len(row) for row in first + second] == [5] * 6


@pytest.mark.slow
def test_implementations_generate_the_same_tokens(tiny: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    answers = []
    for implementation in implementations(tiny):
        with implementation.start() as process:
            answers.append([process.generate([[5, 6, 7], [9, 8, 7]], new) for new in (1, 9)])
    for ours, theirs in zip(*answers, strict=True):
        assert ours["output"] == theirs["output"]
        assert ours["seconds"] > 0
        assert ours["peak_bytes"] > 2**26


def test_implementations_alternate_and_the_warmup_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    values = {"a": iter([100.0, 3.0, 1.0, 2.0]), "b": iter([0.0, 5.0, 6.0, 9.0])}

    class Running:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> "Running":
            return self

        def __exit__(self, *_: object) -> None:
            turns.append(f"end of {self.name}")

    def take(process: Any) -> float:
        turns.append(process.name)
        return next(values[process.name])

    monkeypatch.setattr(Implementation, "start", lambda self: Running(self.name))
    compared = [Implementation("a", "", Path()), Implementation("b", "", Path())]
    (row,) = compare("gpt2", compared, [Measure("m", "s", False, take)], 3)
    assert turns == ["a", "b"] * 4 + ["end of b", "end of a"]
    assert (row.median("a"), row.median("b")) == (2.0, 6.0)


def test_process_that_exits_is_named(tmp_path: Path) -> None:
    missing = Implementation("nobody", "no_such_module", tmp_path)
    with missing.start() as process, pytest.raises(RuntimeError, match="nobody exited"):
        process.generate([[1]], 1)


def test_page_json_and_plot(tmp_path: Path) -> None:
    fast, slow = decode(1, 16, measures.MEASURES[0].name), prefill(64)
    rows = [
        Row("gpt2", fast, {"max-gpt2": [40, 30, 50], "transformers": [20, 20, 25], "other": [10, 10]}),
        Row("gpt2", slow, {"max-gpt2": [40], "transformers": [60]}),
    ]
    notes = {
        "measured": "M",
        "runs": 3.0,
        "bandwidth_bytes_per_s": 40.0 * bytes_per_token(SIZES["gpt2"]),
        "first_compile_s": 21.0,
    }
    found = page.results(rows, notes, {"llama.cpp": "it does not build"})
    assert "| | max-gpt2 | transformers | other |\n" in found
    assert "| gpt2: decode, batch 1 | 40.0 tokens/s (2.00) | 20.0 tokens/s | 10.0 tokens/s (0.50) |\n" in found
    assert "| gpt2: prefill, 64 tokens | 40.0 ms (1.50) | 60.0 ms |  |\n" in found
    assert "- gpt2, max-gpt2: 100 %" in found
    assert "max-gpt2: 21.0 s." in found
    assert found.endswith("llama.cpp was skipped: it does not build")
    once = page.updated("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n", found)
    assert once == page.updated(once, found)
    assert (once.startswith("before\n"), once.endswith("\nafter\n"), "old" in once) == (True, True, False)
    page.write_json(tmp_path / "a.json", rows, notes)
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["rows"][0]["ratios"] == {"max-gpt2": 2.0, "transformers": 1.0, "other": 0.5}
    again, read_notes = page.read_json(tmp_path / "a.json")
    assert page.results(again, read_notes, {}) == page.results(rows, notes, {})
    page.plot(tmp_path / "a.png", rows)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_bytes_per_token_excludes_position_embeddings() -> None:
    config = SIZES["gpt2"]
    assert bytes_per_token(config) == 4 * (124_439_808 - config.n_positions * config.n_embd)


def test_start_measures_a_new_process(tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    seconds, peak = start(Implementation("max-gpt2", "ours", tiny_original))
    assert 0.2 < seconds < 60
    assert 64 < peak < 4096


def test_load_benchmark_reads_the_same_weights(tiny_original: Path) -> None:
    ours, theirs = (measure(name, str(tiny_original)) for name in ("max-gpt2", "transformers"))
    assert ours["sum"] == pytest.approx(theirs["sum"], rel=1e-4)
    assert 0 < ours["load_s"] <= ours["used_s"]


def test_pages_match_the_stored_measurements() -> None:
    for name in ("performance", "peers"):
        assert (
            page.results(*page.read_json(summary.LOG / f"{name}.json"), {}) in (summary.LOG / f"{name}.md").read_text()
        )
    rows, notes = page.read_json(summary.LOG / "performance.json")
    peer_rows, peer_notes = page.read_json(summary.LOG / "peers.json")
    assert summary.summary(rows, notes, peer_rows, peer_notes) in (summary.DOCS / "performance.md").read_text()


def test_summary_names_the_best_peer() -> None:
    fast, slow = measures.MEASURES[0], measures.MEASURES[3]
    notes = {"measured": "2026-01-02: 2 cores of X, Python 3.11.7, MAX 26.7.0"}
    rows = [
        Row("gpt2", fast, {"max-gpt2": [40], "transformers": [20], "a": [50], "b": [80]}),
        Row("gpt2", slow, {"max-gpt2": [40], "transformers": [60], "a": [50], "b": [80]}),
        Row("gpt2-medium", fast, {"max-gpt2": [40], "transformers": [10]}),
    ]
    lines = summary.summary(rows, notes, rows, notes).splitlines()
    assert "| hardware | 2 cores of X | same run | 2 cores of X |" in lines
    assert f"| {fast.name} | 40.0 tokens/s | 2.00 | 0.50 (b) |" in lines
    assert f"| {slow.name} | 40.0 ms | 1.50 | 1.25 (a) |" in lines
    assert not any("gpt2-medium" in line for line in lines)


def is_cached(path: Path) -> bool:
    """Return True if the start of a file can be read without waiting for the disk."""
    with path.open("rb", buffering=0) as file:
        try:
            return os.preadv(file.fileno(), [bytearray(512)], 0, os.RWF_NOWAIT) == 512
        except BlockingIOError:
            return False


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="needs Linux")
def test_evicted_files_come_from_the_disk(tmp_path: Path) -> None:
    files = [tmp_path / "first", tmp_path / "folder" / "second"]
    files[1].parent.mkdir()
    for file in files:
        file.write_bytes(bytes(2**16))
    assert all(map(is_cached, files))
    if "tmpfs" in subprocess.check_output(["stat", "-f", "-c", "%T", tmp_path], text=True):
        pytest.skip("files in memory cannot be removed from it")
    evict(tmp_path / "folder")
    assert list(map(is_cached, files)) == [True, False]
    evict(tmp_path)
    assert not any(map(is_cached, files))
