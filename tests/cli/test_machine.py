import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fixtures.checkpoints import Tensors, edit_weights
from max_gpt2.config import GPT2Config
from max_gpt2.errors import MaxGPT2Error
from max_gpt2.generation import engine
from max_gpt2.model import compile_cache
from max_gpt2.scoring import scorer
from max_gpt2.verify import models
from tests.support.cli import Cli, refused


def test_warm_reports_a_cached_model(cli: Cli, tiny_original: Path) -> None:
    cli("warmup", "--model", tiny_original)
    done = cli("warmup", "--model", tiny_original)
    assert done.code == 0
    assert re.match(rf"{tiny_original} was already compiled; loading it from the cache took \d+\.\d s\.\n", done.out)
    assert "generate and score now start within seconds" in done.out
    assert "Compiling for MAX" in done.err
    result = json.loads(cli("warmup", "--model", tiny_original, "--json").out)
    assert result.keys() == {"model", "load_s", "compile_s", "verify_compile_s", "folder", "cache_growth_bytes"}
    assert (result["cache_growth_bytes"], result["verify_compile_s"]) == (0, None)
    assert result["compile_s"] > 0


Calls = list[tuple[str, GPT2Config, dict[str, Any]]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    for module in ("max_gpt2.system.machine", "max_gpt2.system.doctor"):
        monkeypatch.setattr(f"{module}.cache_folder", lambda: folder)
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Calls:
    """Replace the compiler with one that records its arguments and writes a file of 100 bytes to the cache."""
    made: Calls = []

    def compiler(name: str) -> Callable[[GPT2Config, Tensors], SimpleNamespace]:
        def compile_(config: GPT2Config, weights: Tensors, _kernels: str = "mojo") -> SimpleNamespace:
            made.append((name, config, {key: (value.shape, value.dtype.str) for key, value in weights.items()}))
            (cache / name).write_bytes(bytes(100))
            return SimpleNamespace(weights=weights)

        return compile_

    monkeypatch.setattr(engine, "load_or_compile", compiler("generate"))
    for module in (scorer, compile_cache):
        monkeypatch.setattr(module, "load_or_compile_scoring", compiler("score"))
    monkeypatch.setattr(models, "load_or_compile", compiler("verify"))
    monkeypatch.setattr(models, "load_hidden_states", compiler("hidden states"))
    return made


def test_warm_compiles_the_graphs_of_generate_and_score(
    cli: Cli, calls: Calls, cache: Path, tiny_original: Path
) -> None:
    for command in ("generate", "score"):
        cli(command, "The dog", "--model", tiny_original)
    expected = calls.copy()
    assert [name for name, _, _ in expected] == ["generate", "score"]
    calls.clear()
    for name in ("generate", "score"):
        (cache / name).unlink()
    done = cli("warmup", "--model", tiny_original)
    assert calls == expected
    assert re.match(rf"Compiled {tiny_original} in \d+\.\d s and cached it in {cache}\.\n", done.out)


def test_warm_verify_compiles_the_graphs_of_verify(cli: Cli, calls: Calls, tiny_original: Path) -> None:
    done = cli("warmup", "--verify", "--model", tiny_original)
    assert [name for name, _, _ in calls] == ["generate", "score", "verify", "hidden states"]
    assert len({json.dumps(weights, sort_keys=True) for _, _, weights in calls}) == 1
    assert "generate, score and verify now start within seconds" in done.out
    result = json.loads(cli("warmup", "--verify", "--model", tiny_original, "--json").out)
    assert result["verify_compile_s"] >= 0


def test_warm_needs_the_loading_options(cli: Cli, calls: Calls, tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors.update({"transformer.ln_f.bias": np.full(24, np.inf, np.float32)}))
    assert "--allow-nonfinite" in refused(cli("warmup", "--model", tiny))
    assert cli("warmup", "--verify", "--allow-nonfinite", "--model", tiny).code == 0
    assert len(calls) == 4
    for name in ("tokenizer.json", "vocab.json"):
        (tiny / name).unlink()
    assert "--tokenizer FOLDER" in refused(cli("warmup", "--model", tiny))
    assert "No such option" in refused(cli("warmup", "--frobnicate"))


def test_unwritable_cache_is_rejected_before_compiling(
    cli: Cli, calls: Calls, cache: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_gpt2.system.doctor.writable", lambda _folder: False)
    message = refused(cli("warmup", "--model", tiny_original))
    assert f"error: Cannot use the compile cache {cache}" in message
    assert "MODULAR_MAX_CACHE_DIR" in message
    assert calls == []


def test_compiler_error_is_reported(
    cli: Cli, cache: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise MaxGPT2Error("enough")

    monkeypatch.setattr(engine, "load_or_compile", fail)
    assert refused(cli("warmup", "--model", tiny_original)).endswith("error: enough\n")
    assert list(cache.iterdir()) == []
