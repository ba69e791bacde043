"""That the benchmarks do the same work on both sides; how fast it is, is nothing for a test."""

from pathlib import Path

import pytest
import transformers

from bench.generate import decode, medians, prefill
from bench.load import measure
from max_gpt2 import GPT2
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.generation import Engine
from max_gpt2.model import CompiledModel


def test_the_works_take_turns_and_the_first_round_does_not_count() -> None:
    turns: list[str] = []
    figures = {"a": iter([100.0, 3.0, 1.0, 2.0]), "b": iter([0.0, 5.0, 6.0, 9.0])}

    def work(name: str) -> float:
        turns.append(name)
        return next(figures[name])

    assert medians(3, lambda: work("a"), lambda: work("b")) == [2.0, 6.0]
    assert turns == ["a", "b"] * 4


def test_both_sides_read_and_write_the_same(
    tiny_original: Path, tiny_model: CompiledModel, tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.generate.WRITTEN", 8)
    ours = GPT2(Engine(tiny_model, tiny_checkpoint.tokenizer))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tiny_original).eval()
    for pair in (prefill(ours, theirs, [5, 6, 7]), decode(ours, theirs, [5, 6, 7])):
        assert all(work() > 0 for work in pair)


def test_both_sides_load_the_same_weights(tiny_original: Path) -> None:
    ours, theirs = (measure(side, str(tiny_original)) for side in ("max-gpt2", "transformers"))
    assert ours["sum"] == pytest.approx(theirs["sum"], rel=1e-4)
    assert 0 < ours["load_s"] <= ours["used_s"]
