import json
import re
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from fixtures.checkpoints import (
    Tensors,
    assert_same,
    conv1d_weights,
    edit_config,
    edit_weights,
    reference_model,
    write_checkpoint,
)
from max_gpt2.checkpoint import Checkpoint, LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.errors import CheckpointError, MaxGPT2Error

SQUARE = "transformer.h.1.attn.c_proj.weight"
WTE = "transformer.wte.weight"


def test_state_dict_has_canonical_names_and_layout(tiny_checkpoint: Checkpoint) -> None:
    assert_same(tiny_checkpoint.state_dict, conv1d_weights(reference_model()))
    for value in tiny_checkpoint.state_dict.values():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        assert value.flags.aligned
    assert tiny_checkpoint.state_dict["lm_head.weight"] is tiny_checkpoint.state_dict[WTE]
    assert tiny_checkpoint.plan.tied


def test_square_c_proj_is_not_transposed(tiny_checkpoint: Checkpoint, tiny_original: Path) -> None:
    stored = load_file(tiny_original / "model.safetensors")[SQUARE]
    assert not np.allclose(stored, stored.T)
    np.testing.assert_array_equal(tiny_checkpoint.state_dict[SQUARE], stored)
    assert tiny_checkpoint.plan.transposed == []


@pytest.mark.parametrize("prefix", ["", "module.transformer.", "_orig_mod.transformer."])
def test_known_prefixes_are_removed(tiny: Path, tiny_checkpoint: Checkpoint, prefix: str) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[prefix + name.removeprefix("transformer.")] = tensors.pop(name)

    edit_weights(tiny, rename)
    assert_same(load_checkpoint(tiny).state_dict, tiny_checkpoint.state_dict, atol=0)


def test_names_with_and_without_prefix_may_be_mixed(tiny: Path, tiny_checkpoint: Checkpoint) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors)[::2]:
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)

    edit_weights(tiny, rename)
    assert_same(load_checkpoint(tiny).state_dict, tiny_checkpoint.state_dict, atol=0)


def test_mask_buffers_and_other_heads_are_skipped(tiny: Path, tiny_checkpoint: Checkpoint) -> None:
    extras: Tensors = {
        "transformer.h.0.attn.bias": np.tril(np.ones((1, 1, 67, 67), np.uint8)),
        "transformer.h.0.attn.masked_bias": np.array(-1e4, np.float32),
        "transformer.h.1.attn.bias": np.tril(np.ones((1, 1, 67, 67), bool)),
        "score.weight": np.ones((2, 24), np.float32),
    }
    edit_weights(tiny, lambda tensors: tensors.update(extras))
    checkpoint = load_checkpoint(tiny)
    assert_same(checkpoint.state_dict, tiny_checkpoint.state_dict, atol=0)
    assert checkpoint.plan.skipped.keys() == extras.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_upcast_exactly(tiny: Path, dtype: torch.dtype) -> None:
    path = tiny / "model.safetensors"
    stored = {name: value.to(dtype) for name, value in load_torch(path).items()}
    save_torch(stored, path, metadata={"format": "pt"})
    checkpoint = load_checkpoint(tiny, LoadOptions(weights="float32"))
    np.testing.assert_array_equal(checkpoint.state_dict[WTE], stored[WTE].float().numpy())
    np.testing.assert_array_equal(checkpoint.state_dict[SQUARE], stored[SQUARE].float().numpy())
    assert set(checkpoint.plan.upcast) == set(stored)


def test_signalling_nan_is_rejected(tiny: Path) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[WTE] = tensors[WTE].astype(ml_dtypes.bfloat16)
        tensors[WTE].view(np.uint16)[0, 0] = 0x7F81

    edit_weights(tiny, spoil)
    assert f"{WTE} has 1 values that are NaN or infinite" in error_message(tiny)


def test_shards_are_combined(tiny: Path, tiny_checkpoint: Checkpoint) -> None:
    (tiny / "model.safetensors").unlink()
    reference_model().save_pretrained(tiny, max_shard_size="40KB")
    assert len(list(tiny.glob("model-*.safetensors"))) > 1
    assert_same(load_checkpoint(tiny).state_dict, tiny_checkpoint.state_dict, atol=0)


def test_unaligned_tensors_of_the_published_layout_are_read(tmp_path: Path) -> None:
    from max_gpt2.config import GPT2Config
    from tools.make_checkpoint import stored_layout, values, write_checkpoint

    config = GPT2Config(vocab_size=4096, n_positions=31, n_embd=24, n_layer=2, n_head=3)
    write_checkpoint(config, tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    assert (8 + int.from_bytes(content[:8], "little")) % 4 == 3
    stored = dict(zip(stored_layout(config), values(config, 0), strict=True))
    checkpoint = load_checkpoint(tmp_path)
    np.testing.assert_array_equal(checkpoint.state_dict[WTE], stored["wte.weight"])
    np.testing.assert_array_equal(
        checkpoint.state_dict["transformer.h.1.mlp.c_fc.weight"], stored["h.1.mlp.c_fc.weight"]
    )
    assert checkpoint.plan.skipped.keys() == {"h.0.attn.bias", "h.1.attn.bias"}


def test_stored_head_equal_to_wte_is_tied(tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors.update({"lm_head.weight": tensors[WTE]}))
    checkpoint = load_checkpoint(tiny)
    assert checkpoint.plan.tied
    assert checkpoint.plan.skipped == {"lm_head.weight": "equal to wte"}
    assert checkpoint.state_dict["lm_head.weight"] is checkpoint.state_dict[WTE]


def test_stored_head_different_from_wte_is_untied(tiny: Path) -> None:
    head = np.random.default_rng(0).standard_normal((311, 24), dtype=np.float32)
    edit_weights(tiny, lambda tensors: tensors.update({"lm_head.weight": head}))
    checkpoint = load_checkpoint(tiny)
    assert not checkpoint.plan.tied
    np.testing.assert_array_equal(checkpoint.state_dict["lm_head.weight"], head)


def test_untied_config_has_its_own_head(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path, tie_word_embeddings=False))
    assert_same(checkpoint.state_dict, conv1d_weights(reference_model(tie_word_embeddings=False)))
    assert not np.array_equal(checkpoint.state_dict["lm_head.weight"], checkpoint.state_dict[WTE])


def test_parameter_count_matches_pytorch(tiny_original: Path, tmp_path: Path) -> None:
    _, _, plan = inspect_checkpoint(tiny_original)
    assert plan.parameters == sum(value.numel() for value in reference_model().parameters())


def error_message(folder: Path, load: Callable[[Path], object] = load_checkpoint) -> str:
    with pytest.raises(MaxGPT2Error) as caught:
        load(folder)
    return str(caught.value)


def test_all_problems_are_listed(tiny: Path) -> None:
    def spoil(tensors: Tensors) -> None:
        del tensors["transformer.h.0.ln_1.bias"]
        del tensors["transformer.wpe.weight"]
        tensors["transformer.h.7.ln_1.bias"] = np.zeros(24, np.float32)
        tensors["transformer.h.2.mlp.c_fc.weight"] = np.zeros((24, 95), np.float32)
        tensors["transformer.h.1.attn.c_attn.weight"] = np.zeros((72, 24), np.float32)
        tensors["transformer.ln_f.bias"] = np.zeros(24, np.int8)

    edit_weights(tiny, spoil)
    message = error_message(tiny)
    assert "6 problems" in message
    assert "transformer.h.0.ln_1.bias [24] is missing" in message
    assert "transformer.wpe.weight [67, 24] is missing" in message
    assert "transformer.h.7.ln_1.bias [24] does not belong to a GPT-2 with 3 layers" in message
    assert "transformer.h.2.mlp.c_fc.weight is [24, 95], expected [24, 96]" in message
    assert "transformer.h.1.attn.c_attn.weight is [72, 24], expected [24, 72] (it looks transposed already)" in message
    assert "transformer.ln_f.bias is I8" in message
    assert error_message(tiny, inspect_checkpoint) == message


def test_tensor_under_two_names_is_rejected(tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors.update({"wte.weight": tensors[WTE]}))
    assert "both map to transformer.wte.weight" in error_message(tiny)


def test_untied_config_without_head_is_rejected(tiny: Path) -> None:
    edit_config(tiny, tie_word_embeddings=False)
    assert "lm_head.weight [311, 24] is missing" in error_message(tiny)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_require_allow_nonfinite(tiny: Path, value: float) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors["transformer.h.1.mlp.c_fc.bias"][5] = value
        tensors["transformer.h.2.ln_2.weight"][:3] = value

    edit_weights(tiny, spoil)
    message = error_message(tiny)
    assert "transformer.h.1.mlp.c_fc.bias has 1 value" in message
    assert "transformer.h.2.ln_2.weight has 3 values" in message
    assert "--allow-nonfinite" in message
    weights = load_checkpoint(tiny, LoadOptions(allow_nonfinite=True)).state_dict
    np.testing.assert_array_equal(weights["transformer.h.2.ln_2.weight"][:3], [value] * 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n\n  <html></html>", "web page"),
        (b"PK\x03\x04 something else altogether", "is truncated, damaged or not a weights file"),
    ],
)
def test_other_content_is_named(tiny: Path, content: bytes, expected: str) -> None:
    (tiny / "model.safetensors").write_bytes(content)
    message = error_message(tiny)
    assert expected in message
    assert "model.safetensors" in message


@pytest.mark.parametrize("length", [7, 8, 200, 0.5, 0.999999])
def test_truncated_file_is_rejected(tiny: Path, length: float) -> None:
    path = tiny / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(length if length > 1 else length * len(content))])
    assert re.search("is truncated(,| or) damaged", error_message(tiny))


def test_folder_without_weights_is_rejected(tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    assert "has no model.safetensors" in error_message(tiny)


class TestIndex:
    """The index of a sharded checkpoint, which transformers does not validate."""

    @pytest.fixture
    def sharded(self, tiny: Path) -> Path:
        (tiny / "model.safetensors").unlink()
        reference_model().save_pretrained(tiny, max_shard_size="40KB")
        return tiny

    def spoil(self, folder: Path, edit: Callable[[dict[str, str]], object]) -> str:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        edit(index["weight_map"])
        path.write_text(json.dumps(index))
        return error_message(folder)

    @pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""])
    def test_shard_outside_the_folder_is_rejected(self, sharded: Path, shard: str) -> None:
        assert "is not a plain file name" in self.spoil(sharded, lambda map_: map_.update({WTE: shard}))

    def test_missing_shard_is_rejected(self, sharded: Path) -> None:
        next(sharded.glob("model-00002*")).unlink()
        assert "is missing" in error_message(sharded)

    def test_impossible_file_name_is_reported_as_missing(self, sharded: Path) -> None:
        assert "is missing" in self.spoil(sharded, lambda map_: map_.update({WTE: "x" * 300}))

    def test_tensor_absent_from_its_shard_is_named(self, sharded: Path) -> None:
        message = self.spoil(sharded, lambda map_: map_.update({"x": map_[WTE]}))
        assert "x is not in model-0000" in message

    def test_tensor_absent_from_the_index_is_rejected(self, sharded: Path) -> None:
        assert "but not in the index" in self.spoil(sharded, lambda map_: map_.pop(SQUARE))

    @pytest.mark.parametrize("content", ["{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "nonsense"])
    def test_malformed_index_is_rejected(self, sharded: Path, content: str) -> None:
        (sharded / "model.safetensors.index.json").write_text(content)
        assert "index.json" in error_message(sharded)


def test_unreadable_weights_raise_checkpoint_error(tiny: Path) -> None:
    (tiny / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        load_checkpoint(tiny)
