"""Folders for MAX's server: weights are linked if possible and converted otherwise, and folders are reused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.checkpoints import assert_same, edit_config, edit_weights, write_tokenizer
from max_gpt2.checkpoint import DEFAULT_OPTIONS, LoadOptions, load_checkpoint
from max_gpt2.checkpoint.locate import DEMO
from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.errors import CheckpointError, DestinationError, TokenizerError
from max_gpt2.serve import prepare as module
from max_gpt2.serve.launch import worker_command, worker_environment
from max_gpt2.serve.prepare import Prepared, prepare
from max_gpt2.serve.worker.settings import (
    CACHE_BYTES_VARIABLE,
    WEIGHTS_VARIABLE,
    configured_cache_bytes,
    default_cache_bytes,
    min_cache_bytes,
    page_bytes,
    served_checkpoint,
)
from max_gpt2.weights.quantise import type_of
from tests.support.sources import Made, gguf_quantised, half, hugging_face, llmc, nanogpt, published, sharded, untied


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "compiled_files", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "served"


def assert_serves(prepared: Prepared, source: Any, options: LoadOptions = DEFAULT_OPTIONS) -> None:
    """Check that the folder has the weights and the tokenizer of the source."""
    found, expected = served_checkpoint(str(prepared.folder)), load_checkpoint(source, options)
    assert_same(found.state_dict, expected.state_dict, atol=0)
    assert found.tokenizer.json == expected.tokenizer.json == prepared.tokenizer.json
    assert prepared.weights == sorted(
        one for one in prepared.folder.iterdir() if one.suffix in (".safetensors", ".gguf")
    )


@pytest.mark.parametrize("make", [hugging_face, half, sharded, untied, published, gguf_quantised])
def test_safetensors_and_gguf_are_linked(cache: Path, tmp_path: Path, make: Callable[[Path], Made]) -> None:
    made = make(tmp_path)
    prepared = prepare(made.path, made.options)
    assert_serves(prepared, made.path, made.options)
    assert prepared.folder.parent == cache
    assert all(path.is_symlink() for path in prepared.weights)


@pytest.mark.parametrize("make", [nanogpt, llmc])
def test_other_formats_are_converted(cache: Path, tmp_path: Path, make: Callable[[Path], Made]) -> None:
    made = make(tmp_path)
    prepared = prepare(made.path, made.options)
    assert_serves(prepared, made.path, made.options)
    assert prepared.folder.parent == cache
    assert not any(path.is_symlink() for path in prepared.weights)


def test_worker_loads_the_requested_types(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(prepare(gguf_quantised(tmp_path).path).folder)
    for weights, expected in (("auto", "Q8_0"), ("float16", "F16"), ("float32", "F32")):
        monkeypatch.setenv(WEIGHTS_VARIABLE, weights)
        assert type_of(served_checkpoint(folder).weights["transformer.h.1.attn.c_proj.weight"]) == expected


def test_demo_is_prepared(cache: Path) -> None:
    assert_serves(prepare("demo"), DEMO)


def test_folder_is_reused_until_the_checkpoint_changes(cache: Path, tiny: Path) -> None:
    first = prepare(tiny)
    written = {path: path.lstat().st_mtime_ns for path in first.folder.iterdir()}
    assert prepare(tiny).folder == first.folder
    assert {path: path.lstat().st_mtime_ns for path in first.folder.iterdir()} == written
    edit_config(tiny, layer_norm_epsilon=0.5)
    second = prepare(tiny)
    assert list(cache.iterdir()) == [second.folder] != [first.folder]
    assert load_checkpoint(second.folder).config.layer_norm_epsilon == 0.5


def test_nonfinite_weights_are_refused_before_a_folder_is_written(cache: Path, tiny: Path) -> None:
    def damage(tensors: dict[str, np.ndarray]) -> None:
        tensors["transformer.h.1.mlp.c_fc.weight"][2, 3] = np.nan

    edit_weights(tiny, damage)
    with pytest.raises(CheckpointError, match="NaN"):
        prepare(tiny)
    assert not cache.exists()
    prepared = prepare(tiny, LoadOptions(allow_nonfinite=True))
    assert prepared.folder.is_dir()


def test_tokenizer_option_replaces_a_missing_tokenizer(cache: Path, tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tokenizer(other, 280)
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (tiny / name).unlink()
    with pytest.raises(TokenizerError):
        prepare(tiny)
    prepared = prepare(tiny, LoadOptions(tokenizer=other))
    assert prepared.tokenizer.size == 280
    assert load_checkpoint(prepared.folder).tokenizer.json == prepared.tokenizer.json


def test_unwritable_cache_is_a_destination_error(cache: Path, tiny: Path) -> None:
    cache.parent.write_text("a file")
    with pytest.raises(DestinationError, match="was not written"):
        prepare(tiny)


def test_worker_command_and_environment(cache: Path, tiny: Path) -> None:
    prepared = prepare(tiny)
    command = worker_command(prepared, 8123, name="tiny", max_batch_size=5)
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options["--model-path"] == str(prepared.folder)
    assert options["--weight-path"] == str(prepared.weights[0])
    assert (options["--port"], options["--host"], options["--max-batch-size"]) == ("8123", "127.0.0.1", "5")
    assert (options["--served-model-name"], options["--max-length"]) == ("tiny", "67")
    assert options["--max-batch-input-tokens"] == "1024"
    environment = worker_environment(
        8124, cache_bytes=77, weights="q8_0", base={"PATH": "/bin", CACHE_BYTES_VARIABLE: "1"}
    )
    assert (environment["PATH"], environment[CACHE_BYTES_VARIABLE]) == ("/bin", "77")
    assert environment[WEIGHTS_VARIABLE] == "q8_0"
    assert environment["MAX_SERVE_METRICS_ENDPOINT_PORT"] == "8124"
    assert (environment["OTEL_SDK_DISABLED"], environment["MODULAR_TELEMETRY_ENABLED"]) == ("true", "0")


def test_cache_size_defaults_to_half_a_context_per_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt2 = SIZES["gpt2"]
    assert page_bytes(gpt2) == 128 * 768 * 12 * 2 * 4
    assert min_cache_bytes(gpt2) == 9 * page_bytes(gpt2)
    assert default_cache_bytes(gpt2, 32) == (32 * 4 + 1) * page_bytes(gpt2)
    assert default_cache_bytes(gpt2, 1) == min_cache_bytes(gpt2)
    assert min_cache_bytes(GPT2Config(n_positions=129)) == 3 * page_bytes(gpt2)
    assert configured_cache_bytes(gpt2, 32) == default_cache_bytes(gpt2, 32)
    monkeypatch.setenv(CACHE_BYTES_VARIABLE, "123456")
    assert configured_cache_bytes(gpt2, 32) == 123456
