from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.checkpoints import (
    Tensors,
    as_linear,
    assert_same,
    conv1d_weights,
    random_ids,
    reference_logits,
    reference_model,
    write_tokenizer,
)
from fixtures.formats import EPSILON, linear_state, write_llmc
from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.errors import CheckpointError, MaxGPT2Error, TokenizerError
from max_gpt2.verify.models import TorchImplementation

WTE = "transformer.wte.weight"
SQUARE = "transformer.h.1.attn.c_proj.weight"


@pytest.fixture(scope="module")
def weights() -> Tensors:
    return linear_state()


@pytest.fixture
def file(tmp_path: Path, weights: Tensors) -> Path:
    write_tokenizer(tmp_path)
    return write_llmc(tmp_path / "gpt2.bin", weights)


def error_message(path: Path, load: Callable[[Path], object] = inspect_checkpoint) -> str:
    with pytest.raises(MaxGPT2Error) as caught:
        load(path)
    return str(caught.value)


def test_logits_match_transformers(file: Path, weights: Tensors) -> None:
    checkpoint = load_checkpoint(file)
    model = reference_model(layer_norm_epsilon=EPSILON)
    assert_same(as_linear(checkpoint.state_dict), weights, atol=0)
    assert_same(checkpoint.state_dict, conv1d_weights(model))
    ids = random_ids(2, 67)
    np.testing.assert_allclose(
        TorchImplementation(checkpoint).logits(ids), reference_logits(model, ids), rtol=0, atol=1e-5
    )
    plan = checkpoint.plan
    assert (plan.format, plan.head, plan.upcast) == ("llm.c", "tied", [])
    assert len(plan.transposed) == 12
    assert plan.skipped == {"wte[311:384]": "rows that pad the vocabulary"}
    assert plan.parameters == sum(value.numel() for value in model.parameters())
    assert checkpoint.config.activation_function == "gelu_new"


def test_square_c_proj_is_transposed(file: Path, weights: Tensors) -> None:
    assert not np.allclose(weights[SQUARE], weights[SQUARE].T)
    np.testing.assert_array_equal(load_checkpoint(file).state_dict[SQUARE], weights[SQUARE].T)


def test_llmc_is_detected_in_a_folder_under_any_name(file: Path, weights: Tensors) -> None:
    other = file.rename(file.parent / "pytorch_model.bin")
    for path in (other, other.parent):
        np.testing.assert_array_equal(load_checkpoint(path).state_dict[WTE], weights[WTE])


def test_bfloat16_is_upcast_exactly(file: Path, weights: Tensors) -> None:
    write_llmc(file, weights, version=5)
    checkpoint = load_checkpoint(file, LoadOptions(weights="float32"))
    state_dict = as_linear(checkpoint.state_dict)
    for name, value in weights.items():
        expected = torch.from_numpy(value).bfloat16().float().numpy()
        np.testing.assert_array_equal(state_dict[name], expected, err_msg=name)
    assert checkpoint.plan.dtypes == ["BF16"]
    assert "qkvw[2]" in checkpoint.plan.upcast


def test_unpadded_vocabulary_is_read(file: Path, weights: Tensors) -> None:
    write_llmc(file, weights, padded=311)
    checkpoint = load_checkpoint(file)
    assert checkpoint.plan.skipped == {}
    assert_same(as_linear(checkpoint.state_dict), weights, atol=0)


def test_weights_survive_replacement_of_the_file(file: Path, weights: Tensors) -> None:
    checkpoint = load_checkpoint(file)
    size = file.stat().st_size
    file.unlink()
    file.write_bytes(bytes(size))
    np.testing.assert_array_equal(checkpoint.state_dict[WTE], weights[WTE])


def test_missing_tokenizer_is_an_error(tmp_path: Path, weights: Tensors) -> None:
    file = write_llmc(tmp_path / "gpt2.bin", weights)
    with pytest.raises(TokenizerError, match=r"has no tokenizer.*--tokenizer FOLDER"):
        load_checkpoint(file)


@pytest.mark.parametrize("length", [4, 1023, 1024, 0.5, -2, -1])
def test_truncated_file_is_rejected(file: Path, length: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: length if isinstance(length, int) else int(length * len(content))])
    message = error_message(file)
    assert "gpt2.bin is truncated" in message


def test_trailing_bytes_are_rejected(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0\0\0\0")
    assert "bytes instead of" in error_message(file)


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        (0, 20240327, "its first bytes are not those of"),
        (1, 1, "version 1; supported are 3 (float32) and 5 (bfloat16)"),
        (1, 5, "bytes instead of"),
        (2, 66, "bytes instead of"),
        (3, 385, "padded_vocab_size 384"),
        (3, 0, "vocab_size 0"),
        (4, 4, "bytes instead of"),
        (4, 2**31 - 1, "bytes instead of"),
        (4, -1, "n_layer -1"),
        (5, 7, "n_embd 24 is not a multiple of n_head 7"),
        (6, 2**31 - 1, "bytes instead of"),
        (7, 385, "bytes instead of"),
    ],
)
def test_wrong_header_is_rejected(file: Path, position: int, value: int, expected: str) -> None:
    content = bytearray(file.read_bytes())
    content[4 * position : 4 * position + 4] = value.to_bytes(4, "little", signed=True)
    file.write_bytes(content)
    assert expected in error_message(file)


def test_nonfinite_values_are_reported_with_llmc_names(file: Path, weights: Tensors) -> None:
    infinite = weights | {"transformer.h.2.ln_2.bias": np.full(24, np.inf, np.float32)}
    write_llmc(file, infinite)
    with pytest.raises(CheckpointError, match=r"ln2b\[2\] has 24 values that are NaN or infinite"):
        load_checkpoint(file)
    assert np.isinf(
        load_checkpoint(file, LoadOptions(allow_nonfinite=True)).state_dict["transformer.h.2.ln_2.bias"]
    ).all()
