"""Conversions to GGUF that are refused, and files that must not change."""

import errno
import os
import resource
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from fixtures.checkpoints import edit_config, edit_weights
from max_gpt2.checkpoint import LoadOptions, load_checkpoint
from max_gpt2.checkpoint.gguf_convert import convert_to_gguf, parse_type
from max_gpt2.errors import CheckpointError, ConfigError, DestinationError, MaxGPT2Error, RequestError, TokenizerError
from tests.checkpoint.test_convert_tokenizer import lowercase, unsplit, words
from tests.support.sources import contents, gguf_float32, llmc, nanogpt

WTE = "transformer.wte.weight"


def message(kind: type[MaxGPT2Error], source: Path, target: Path | str, type_: str | None = None, **rest: Any) -> str:
    """Return the error of a rejected conversion; assert that the parent folder is unchanged."""
    parent = Path(os.path.realpath(target)).parent
    before = sorted(path.name for path in parent.iterdir()) if parent.is_dir() else []
    with pytest.raises(kind) as caught:
        convert_to_gguf(source, target, type_, **rest)
    assert (sorted(path.name for path in parent.iterdir()) if parent.is_dir() else []) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"activation_function": "relu"}, "activation_function is relu, and llama.cpp computes gelu_new"),
        ({"activation_function": "gelu"}, "activation_function is gelu"),
        ({"scale_attn_weights": False}, "scale_attn_weights is false"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is true"),
    ],
)
def test_config_that_llama_cpp_does_not_compute(
    tiny: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    edit_config(tiny, **changes)
    error = message(ConfigError, tiny, tmp_path / "new.gguf")
    assert f"{tiny} cannot be written as GGUF: {problem}" in error
    assert error.endswith("Convert it to safetensors instead, without --to gguf.")


def test_nanogpt_has_another_gelu(tmp_path: Path) -> None:
    made = nanogpt(tmp_path)
    assert "gelu" in message(ConfigError, made.path, tmp_path / "new.gguf", None, options=made.options)


@pytest.mark.parametrize("name", ["gelu_fast", "gelu_pytorch_tanh", "gelu_accurate"])
def test_other_names_of_the_tanh_gelu_are_written(tiny: Path, tmp_path: Path, name: str) -> None:
    edit_config(tiny, activation_function=name)
    assert load_checkpoint(convert_to_gguf(tiny, tmp_path / "new.gguf").file).config.activation_function == "gelu_new"


@pytest.mark.parametrize("make", [words, lowercase, unsplit])
def test_other_tokenizers_are_refused(tiny: Path, tmp_path: Path, make: Callable[[], Any]) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tiny / name).unlink()
    make().save(str(tiny / "tokenizer.json"))
    (tiny / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    error = message(TokenizerError, tiny, tmp_path / "new.gguf")
    assert f"The tokenizer of {tiny} cannot be written as GGUF: it is not a byte-level BPE" in error
    assert "--tokenizer FOLDER" in error


def test_tokenizer_with_a_space_before_every_text_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tiny / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    assert "add_prefix_space is true" in message(TokenizerError, tiny, tmp_path / "new.gguf")


def test_tokenizer_without_merges_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    (tiny / "merges.txt").write_text("#version: 0.2\n")
    assert "it has no merges" in message(TokenizerError, tiny, tmp_path / "new.gguf")


@pytest.mark.parametrize("type_", ["q6_k", "Q4_K_M", "iq4_nl", "tq1_0"])
def test_types_of_llama_quantize_are_named(type_: str) -> None:
    with pytest.raises(RequestError, match=f"`llama-quantize IN.gguf OUT.gguf {type_.upper()}`"):
        parse_type(type_)


def test_unknown_type_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    error = message(RequestError, tmp_path / "missing", tmp_path / "new.gguf", "float8")
    assert error == "--type 'float8' is not one of f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0."
    assert parse_type("Q8_0") == "q8_0"


@pytest.mark.parametrize(
    ("type_", "fits", "fails"),
    [
        ("f16", 65504, 65600),
        ("bf16", 3.3895e38, 3.3999e38),
        ("q8_0", 127 * 65504, 128 * 65504),
        ("q5_0", 16 * 65504, 17 * 65504),
        ("q5_1", 65504, 65600),
    ],
)
def test_values_beyond_the_type_are_refused(tiny: Path, tmp_path: Path, type_: str, fits: float, fails: float) -> None:
    name = "transformer.h.0.mlp.c_proj.weight"  # [96, 24]: its rows, of 96 in the file, are blocks of 32

    def set_to(value: float) -> None:
        edit_weights(tiny, lambda state: state[name].__setitem__((5, 5), np.float32(-value)))

    set_to(fails)
    error = message(CheckpointError, tiny, tmp_path / "new.gguf", type_)
    assert error.startswith(f"{name} has values up to {np.float32(fails):.6g}, and {type_.upper()} holds at most")
    set_to(fits)
    loaded = load_checkpoint(convert_to_gguf(tiny, tmp_path / "new.gguf", type_).file)
    assert np.isfinite(loaded.state_dict[name]).all()
    assert loaded.state_dict[name][5, 5] == pytest.approx(-fits, rel=0.01)


def test_nonfinite_values_are_refused_or_kept(tiny: Path, tmp_path: Path) -> None:
    edit_weights(tiny, lambda state: state[WTE].__setitem__((3, 4), np.float32("nan")))
    for type_ in ("f32", "q8_0"):
        assert f"{WTE} has 1 values that are NaN" in message(CheckpointError, tiny, tmp_path / "new.gguf", type_)
    options = LoadOptions(allow_nonfinite=True)
    error = message(RequestError, tiny, tmp_path / "new.gguf", "q8_0", options=options)
    assert error == "--allow-nonfinite needs --type f32, f16 or bf16: q8_0 cannot hold NaN."
    file = convert_to_gguf(tiny, tmp_path / "new.gguf", "f16", options).file
    assert np.isnan(load_checkpoint(file, options).state_dict[WTE][3, 4])


class TestTarget:
    def test_existing_file_is_replaced_only_with_force_and_if_it_is_gguf(self, tiny: Path, tmp_path: Path) -> None:
        target = convert_to_gguf(tiny, tmp_path / "new.gguf").file
        assert "already exists. Give a new path, or add --force" in message(DestinationError, tiny, target)
        before = target.stat().st_size
        assert convert_to_gguf(tiny, target, "f16", force=True).bytes < before
        (tmp_path / "notes.txt").write_text("precious")
        error = message(DestinationError, tiny, tmp_path / "notes.txt", force=True)
        assert "is not a GGUF file, so --force does not replace it" in error
        assert (tmp_path / "notes.txt").read_text() == "precious"

    def test_folder_is_no_file(self, tiny: Path, tmp_path: Path) -> None:
        for force in (False, True):
            assert f"such as {tiny}/gpt2.gguf" in message(DestinationError, tiny, tiny, force=force)
        assert "does not exist. Create it first" in message(DestinationError, tiny, tmp_path / "a" / "new.gguf")

    def test_source_is_not_overwritten(self, tmp_path: Path) -> None:
        source = gguf_float32(tmp_path).path
        (tmp_path / "link.gguf").symlink_to(source)
        for target in (source, tmp_path / "link.gguf"):
            assert "is read by the conversion" in message(DestinationError, source, target, force=True)

    def test_file_in_the_source_folder_must_not_be_ambiguous(self, tiny: Path, tmp_path: Path) -> None:
        done = convert_to_gguf(tiny, tiny / "new.gguf")
        assert load_checkpoint(tiny).plan.format == "Hugging Face safetensors"
        assert load_checkpoint(done.file).plan.format == "GGUF"
        shutil.rmtree(tiny)
        llmc(tmp_path)
        assert "would then hold two checkpoints" in message(DestinationError, tmp_path, tmp_path / "new.gguf")

    def test_default_permissions(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        file = convert_to_gguf(tiny, tmp_path / "new.gguf").file
        assert file.stat().st_mode == (tmp_path / "file").stat().st_mode

    @pytest.mark.parametrize("error", [ZeroDivisionError("oh"), KeyboardInterrupt(), MemoryError()])
    def test_exception_leaves_nothing_behind(self, tiny: Path, tmp_path: Path, error: BaseException) -> None:
        def stop(done: int, total: int) -> None:
            if done > total / 2:
                raise error

        with pytest.raises(type(error)):
            convert_to_gguf(tiny, tmp_path / "new.gguf", progress=stop)
        assert list(tmp_path.iterdir()) == [tiny]

    def test_failure_preserves_the_old_file(self, tiny: Path, tmp_path: Path) -> None:
        old = convert_to_gguf(tiny, tmp_path / "new.gguf").file
        before = contents(tmp_path / "tiny") | {"old": old.read_bytes()}
        with pytest.raises(ZeroDivisionError):
            convert_to_gguf(tiny, old, "f16", force=True, progress=lambda done, total: 1 // 0)
        assert contents(tmp_path / "tiny") | {"old": old.read_bytes()} == before

    def test_file_created_meanwhile_is_preserved(self, tiny: Path, tmp_path: Path) -> None:
        target = tmp_path / "new.gguf"
        with pytest.raises(DestinationError, match="already exists"):
            convert_to_gguf(tiny, target, progress=lambda done, total: target.write_text("theirs"))
        assert target.read_text() == "theirs"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["new.gguf", "tiny"]

    def test_too_little_disk_space_is_reported_before_writing(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(100_000))
        error = message(DestinationError, tiny, tmp_path / "new.gguf")
        assert "needs 0.1 MB, and its disk has 0.1 MB free" in error
        convert_to_gguf(tiny, tmp_path / "new.gguf", "f16")  # half the size

    @pytest.mark.parametrize("limit", [3_000, 50_000])  # within the metadata, and within the weights
    def test_file_size_limit_is_reported(self, tiny: Path, tmp_path: Path, limit: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            error = message(DestinationError, tiny, tmp_path / "new.gguf")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "new.gguf was not written (" in error
        assert error.endswith("give a path elsewhere.")

    def test_disk_that_fills_up_is_reported(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_writer: object, _values: object) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("gguf.GGUFWriter.write_tensor_data", full)
        assert "Free some space, or give a path elsewhere" in message(DestinationError, tiny, tmp_path / "new.gguf")
