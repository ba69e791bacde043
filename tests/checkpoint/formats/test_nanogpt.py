from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.checkpoints import as_linear, random_ids, write_tokenizer
from fixtures.formats import NanoGPT, nanogpt_content
from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.errors import CheckpointError, MaxGPT2Error, TokenizerError
from max_gpt2.verify.models import TorchImplementation

SQUARE = "transformer.h.1.attn.c_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    return tmp_path


def save(folder: Path, bias: bool = True, prefix: str = "", changes: dict[str, Any] | None = None) -> NanoGPT:
    """Save a checkpoint with `changes` to its model_args; return its model."""
    model = NanoGPT(bias)
    content = nanogpt_content(model, bias, prefix)
    content["model_args"] |= changes or {}
    torch.save(content, folder / "ckpt.pt")
    return model


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_match_nanogpt(folder: Path, bias: bool, prefix: str) -> None:
    model = save(folder, bias, prefix)
    checkpoint = load_checkpoint(folder, LoadOptions(allow_pickle=True))
    state_dict = as_linear(checkpoint.state_dict)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(state_dict[name], value.numpy(), err_msg=name)
    ids = random_ids(2, 67)
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).numpy()
    np.testing.assert_allclose(TorchImplementation(checkpoint).logits(ids), expected, rtol=0, atol=2e-5)
    assert np.abs(expected).max() > 1
    assert checkpoint.plan.format == "nanoGPT"
    assert len(checkpoint.plan.transposed) == 12
    assert checkpoint.plan.tied
    assert checkpoint.config.activation_function == "gelu"


def test_square_c_proj_is_transposed(folder: Path) -> None:
    stored = save(folder).state_dict()[SQUARE].numpy()
    assert not np.allclose(stored, stored.T)
    np.testing.assert_array_equal(load_checkpoint(folder, LoadOptions(allow_pickle=True)).state_dict[SQUARE], stored.T)


def test_absent_biases_are_zero_filled_and_reported(folder: Path) -> None:
    save(folder, bias=False)
    checkpoint = load_checkpoint(folder, LoadOptions(allow_pickle=True))
    zeros = checkpoint.plan.zero_filled
    assert len(zeros) == 3 * 6 + 1
    assert set(zeros.values()) == {"model_args has bias=False"}
    assert {"transformer.h.2.ln_1.bias", "transformer.h.0.mlp.c_fc.bias", "transformer.ln_f.bias"} <= zeros.keys()
    assert all(not checkpoint.state_dict[name].any() for name in zeros)
    assert checkpoint.state_dict["transformer.h.0.mlp.c_fc.bias"].shape == (96,)


def test_checkpoint_without_the_bias_option_is_read(folder: Path) -> None:
    save(folder)
    content = torch.load(folder / "ckpt.pt")
    del content["model_args"]["bias"]
    torch.save(content, folder / "ckpt.pt")
    assert load_checkpoint(folder, LoadOptions(allow_pickle=True)).plan.zero_filled == {}


def test_nanogpt_is_detected_under_any_name(folder: Path) -> None:
    save(folder)
    file = (folder / "ckpt.pt").rename(folder / "model.gguf")
    assert load_checkpoint(file, LoadOptions(allow_pickle=True)).plan.format == "nanoGPT"
    assert load_checkpoint(folder, LoadOptions(allow_pickle=True)).plan.format == "nanoGPT"


def test_two_checkpoints_in_a_folder_are_ambiguous(folder: Path) -> None:
    save(folder)
    (folder / "older.pt").write_bytes((folder / "ckpt.pt").read_bytes())
    with pytest.raises(CheckpointError, match=r"several files that could be the weights: ckpt\.pt, older\.pt\. Give"):
        inspect_checkpoint(folder, LoadOptions(allow_pickle=True))
    inspect_checkpoint(folder / "older.pt", LoadOptions(allow_pickle=True))


def test_pickle_requires_allow_pickle(folder: Path) -> None:
    save(folder)
    with pytest.raises(CheckpointError, match=r"ckpt\.pt is a pickle.*--allow-pickle"):
        inspect_checkpoint(folder)


def test_tokenizer_option_supplies_the_tokenizer(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    alone = tmp_path_factory.mktemp("alone")
    save(alone)
    with pytest.raises(TokenizerError, match=r"has no tokenizer.*--tokenizer FOLDER"):
        load_checkpoint(alone, LoadOptions(allow_pickle=True))
    with pytest.raises(TokenizerError, match=r"nothing\" is not a folder"):
        load_checkpoint(alone, LoadOptions(allow_pickle=True, tokenizer=alone / "nothing"))
    assert load_checkpoint(alone, LoadOptions(allow_pickle=True, tokenizer=folder)).tokenizer.size == 300


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bias": False}, "transformer.h.0.ln_1.bias is present, but model_args has bias=False"),
        ({"bias": 1}, "bias is 1, not True or False"),
        ({"n_layer": 2}, "transformer.h.2.ln_1.weight [24] does not belong to a GPT-2 with 2 layers"),
        ({"n_layer": 4}, "transformer.h.3.ln_1.weight [24] is missing"),
        ({"n_layer": 9999}, "too few for 9999 layers"),
        ({"n_head": 5}, "n_embd 24 is not a multiple of n_head 5"),
        ({"n_embd": "24"}, 'n_embd is "24"'),
        ({"block_size": 66}, "transformer.wpe.weight is [67, 24], expected [66, 24]"),
    ],
)
def test_inconsistent_model_args_are_rejected(folder: Path, changes: dict[str, Any], expected: str) -> None:
    save(folder, changes=changes)
    with pytest.raises(MaxGPT2Error) as caught:
        load_checkpoint(folder, LoadOptions(allow_pickle=True))
    assert expected in str(caught.value)


def test_missing_biases_are_errors_if_the_model_has_biases(folder: Path) -> None:
    save(folder, bias=False)
    content = torch.load(folder / "ckpt.pt")
    content["model_args"]["bias"] = True
    torch.save(content, folder / "ckpt.pt")
    with pytest.raises(CheckpointError, match="19 problems"):
        inspect_checkpoint(folder, LoadOptions(allow_pickle=True))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model": {}, "model_args": 3}, "is of type int, not a dict"),
        ({"model": {}, "model_args": {"n_layer": 3}}, "block_size is missing"),
        ({"model": [1], "model_args": {}}, "vocab_size is missing"),
    ],
)
def test_incomplete_checkpoint_is_rejected(folder: Path, content: dict[str, Any], expected: str) -> None:
    torch.save(content, folder / "ckpt.pt")
    with pytest.raises(MaxGPT2Error) as caught:
        inspect_checkpoint(folder, LoadOptions(allow_pickle=True))
    assert expected in str(caught.value)
