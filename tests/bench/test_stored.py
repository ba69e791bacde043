"""The benchmark measures the same weights in every stored type and reports speed and memory relative to them."""

from pathlib import Path

import numpy as np
import pytest

from bench import page, stored, summary
from bench.bandwidth import bytes_per_token
from bench.implementation import Implementation
from bench.measures import MEMORY, MEMORY_RATIO, START, decode
from bench.page import LLAMA_CPP, OURS, REFERENCE, Row, typed
from bench.speed import starts
from max_gpt2.checkpoint import LoadOptions, load_checkpoint
from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.weights import LM_HEAD, Quantised
from tools.make_checkpoint import write_checkpoint

SMALL = GPT2Config(vocab_size=4096, n_positions=31, n_embd=64, n_layer=2, n_head=4)
WEIGHT = "transformer.h.1.mlp.c_fc.weight"
NOTES = {"measured": "2026-01-02: 2 cores of X, Python 3.11.7", "runs": 3, "bandwidth_bytes_per_s": 40e9}


def rows() -> list[Row]:
    f16, q8_0 = typed(OURS, "F16"), typed(OURS, "Q8_0")
    speeds = {OURS: [40.0], REFERENCE: [20.0], LLAMA_CPP: [50.0], "a": [30.0]}
    return [
        Row("gpt2", decode(1, 16, "decode, batch 1"), speeds | {f16: [70.0], q8_0: [90.0], "llama.cpp Q8_0": [120.0]}),
        Row("gpt2", START, {OURS: [0.4], REFERENCE: [4.0], LLAMA_CPP: [0.25], f16: [0.3], q8_0: [0.5]}),
        Row("gpt2", MEMORY, {OURS: [600.0], REFERENCE: [900.0], f16: [400.0], q8_0: [300.0]}),
        Row("gpt2", MEMORY_RATIO, {OURS: [1.1], REFERENCE: [2.2], f16: [1.2], q8_0: [1.3], "llama.cpp Q8_0": [1.04]}),
    ]


def test_every_type_stores_the_same_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_checkpoint(SMALL, folder)
    float32 = Implementation(LLAMA_CPP, "llama_cpp_", folder, Path("python-of-llama.cpp"))
    found = stored.ours(SMALL, folder)
    peers = stored.llama_cpp(float32)
    assert [one.name for one in found] == [f"{OURS} {type_}" for type_ in ("F16", "BF16", "Q8_0", "Q4_0")]
    assert [one.name for one in peers] == [f"{LLAMA_CPP} {type_}" for type_ in ("F16", "Q8_0", "Q4_0")]
    assert {one.python for one in peers} == {float32.python}
    assert [one.folder for one in peers[1:]] == [one.folder for one in found[2:]]
    exact = load_checkpoint(folder).state_dict
    sizes = stored.stored_bytes([*found, *peers])
    tolerances = {"F16": 2**-11, "BF16": 2**-8, "Q8_0": 2**-6, "Q4_0": 2**-2}
    for one in (*found, *peers):
        type_ = one.name.rpartition(" ")[2]
        checkpoint = load_checkpoint(one.folder, LoadOptions(weights="auto"))
        weight, expected = checkpoint.weights[WEIGHT], exact[WEIGHT]
        kind = weight.type if isinstance(weight, Quantised) else {"float16": "F16"}.get(weight.dtype.name, "BF16")
        assert kind == type_
        assert np.abs(checkpoint.state_dict[WEIGHT] - expected).max() <= tolerances[type_] * np.abs(expected).max()
        arrays = {id(one): one for name, one in checkpoint.weights.items() if name != LM_HEAD}.values()
        assert sizes[one.name] == sum((one.data if isinstance(one, Quantised) else one).nbytes for one in arrays)


def test_memory_is_measured_above_an_empty_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    write_checkpoint(SMALL, folder)
    compared = [Implementation(OURS, "ours", folder), Implementation("a", "a_", folder), *stored.ours(SMALL, folder)]
    started: list[Path] = []

    def start(one: Implementation) -> tuple[float, float]:
        started.append(one.folder)
        return 0.5, 100.0 if "empty" in one.folder.name else 103.0

    monkeypatch.setattr("bench.stored.start", start)
    monkeypatch.setattr("bench.speed.start", start)
    seconds, peaks, multiples = starts("gpt2", compared, 2, tmp_path)
    assert seconds.figures[OURS] == [0.5] * 2
    assert peaks.figures["a"] == [103.0] * 2
    assert "a" not in multiples.figures
    sizes = stored.stored_bytes(compared)
    for name, values in multiples.figures.items():
        assert values == pytest.approx([3 * 2**20 / sizes[name]] * 2)
    assert [one.name for one in started[-5:]] == [
        "empty",
        "empty-F16",
        "empty-BF16",
        "empty-Q8_0.gguf",
        "empty-Q4_0.gguf",
    ]


def test_stored_types_have_a_table_and_shares_of_their_own(tmp_path: Path) -> None:
    config = SIZES["gpt2"]
    sizes = dict.fromkeys(rows()[0].figures, 250000000)
    notes = {**NOTES, "stored_bytes": sizes}
    found = page.results(rows(), notes, {})
    float32, types = (part for part in found.split("\n\n") if part.startswith("| |"))
    assert float32.startswith("| | max-gpt2 | transformers | llama.cpp | a |\n")
    assert types.startswith("| | max-gpt2 F16 | max-gpt2 Q8_0 | llama.cpp Q8_0 |\n")
    assert "| gpt2: decode, batch 1 | 70.0 tokens/s (3.50) | 90.0 tokens/s (4.50) | 120 tokens/s (6.00) |" in types
    read = 250_000_000 - 4 * config.n_positions * config.n_embd
    assert bytes_per_token(config, 250_000_000) == read
    assert f"- gpt2, max-gpt2 Q8_0: {100 * 90 * read / 40e9:.0f} %" in found
    assert f"- gpt2, max-gpt2: {100 * 40 * bytes_per_token(config) / 40e9:.0f} %" in found
    assert all(len(row.figures) == count for row, count in zip(page.float32_rows(rows()), (4, 3, 2, 2), strict=True))
    page.write_json(tmp_path / "a.json", rows(), notes)
    assert page.results(*page.read_json(tmp_path / "a.json"), {}) == found


def test_summary_compares_types_with_float32_and_with_llama_cpp() -> None:
    lines = summary.stored_summary(rows()).splitlines()
    assert lines[0] == "| | F32 | F16 | Q8_0 |"
    assert lines[2:] == [
        "| decode, batch 1 | 40.0 tokens/s (0.80) | 1.75 | 2.25 (0.75) |",
        "| memory above the process's base | 1.10 | 1.20 | 1.30 (0.80) |",
    ]
    assert summary.stored_summary(page.float32_rows(rows())) == ""
    assert summary.summary(rows(), NOTES, rows(), NOTES).count("(llama.cpp)") == 2


def test_stored_page_matches_the_measurements() -> None:
    found, _ = page.read_json(summary.LOG / "peers.json")
    assert summary.stored_summary(found) in (summary.DOCS / "performance.md").read_text()
