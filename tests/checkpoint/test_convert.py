"""Checkpoints of every format, converted and loaded with transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save, save_file

from fixtures.checkpoints import TEXT, random_ids, reference_logits
from fixtures.formats import NanoGPT
from max_gpt2.checkpoint import LoadOptions, load_checkpoint
from max_gpt2.checkpoint.convert import convert
from tests.support.sources import HEAD, SOURCES, WTE, Made, bits, contents, expected_model
from tests.support.sources import nanogpt_without_biases as without_biases

TEXTS = ["", TEXT, " Hello  world\n\n\n", "Good morning 🌍! Ça va? 你好", "a<|endoftext|>b", "\x00"]


@pytest.fixture(params=SOURCES, ids=lambda source: source.__name__)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    source: Callable[[Path], Made] = request.param
    return source(tmp_path)


def test_transformers_computes_the_same_from_the_converted_folder(
    made: Made, tmp_path: Path, transformers_warnings: list[str]
) -> None:
    folder = convert(made.path, tmp_path / "new", made.options).folder
    load: Any = transformers.GPT2LMHeadModel.from_pretrained
    model, report = load(folder, dtype=torch.float32, output_loading_info=True)
    as_stored = load(folder)
    model.generate(torch.tensor([[3, 4]]), attention_mask=torch.ones(1, 2), max_new_tokens=2, pad_token_id=0)
    ours = load_checkpoint(made.path, made.options).tokenizer
    for tokenizer_type in (transformers.AutoTokenizer, transformers.GPT2Tokenizer):
        theirs = tokenizer_type.from_pretrained(folder)
        for text in TEXTS:
            assert theirs(text, split_special_tokens=True).input_ids == ours.encode(text), text
    assert transformers_warnings == []
    assert not any(report.values()), report
    ids = random_ids(2, made.config["n_positions"], made.config["vocab_size"])
    np.testing.assert_array_equal(reference_logits(model, ids), reference_logits(expected_model(made), ids))
    dtypes = {value.dtype for value in made.state.values()}
    assert {value.dtype for value in as_stored.state_dict().values()} == (
        dtypes if len(dtypes) == 1 else {torch.float32}
    )


def test_weights_are_bitwise_identical(made: Made, tmp_path: Path) -> None:
    folder = convert(made.path, tmp_path / "new", made.options).folder
    assert bits(load_file(folder / "model.safetensors")) == bits(made.state)
    content = (folder / "model.safetensors").read_bytes()
    assert content == save(
        made.state, metadata={"format": "pt"}
    )  # in the order and alignment of the safetensors library
    assert int.from_bytes(content[:8], "little") % 8 == 0


def test_conversion_is_deterministic_and_idempotent(made: Made, tmp_path: Path) -> None:
    first = convert(made.path, tmp_path / "first", made.options)
    convert(made.path, tmp_path / "second", made.options)
    again = convert(tmp_path / "first", tmp_path / "again")
    assert contents(tmp_path / "first") == contents(tmp_path / "second") == contents(tmp_path / "again")
    assert first.files == again.files == {name: len(file) for name, file in contents(tmp_path / "again").items()}
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_loading_before_and_after_conversion_is_bitwise_identical(made: Made, tmp_path: Path) -> None:
    before = load_checkpoint(made.path, made.options)
    after = load_checkpoint(convert(made.path, tmp_path / "new", made.options).folder)
    assert before.state_dict.keys() == after.state_dict.keys()
    for name, value in before.state_dict.items():
        assert value.tobytes() == after.state_dict[name].tobytes(), name
    assert after.plan.tied == before.plan.tied == (HEAD not in made.state)
    assert after.config.intermediate_size == before.config.intermediate_size
    for text in TEXTS:
        assert after.tokenizer.encode(text) == before.tokenizer.encode(text)


def test_converted_nanogpt_matches_the_original_model(tmp_path: Path) -> None:
    made = without_biases(tmp_path)
    done = convert(made.path, tmp_path / "new", made.options)
    original = NanoGPT(bias=False)
    original.load_state_dict(torch.load(made.path)["model"])
    ids = random_ids(2, 67)
    with torch.no_grad():
        expected = original(torch.from_numpy(ids)).numpy()
    model = transformers.GPT2LMHeadModel.from_pretrained(done.folder)
    np.testing.assert_allclose(reference_logits(model, ids), expected, rtol=0, atol=2e-5)
    assert np.abs(expected).max() > 1
    assert len(done.transposed) == 12
    assert "transformer.h.1.attn.c_proj.weight" in done.transposed
    assert (done.tensors, done.dtypes) == (40, ["F32"])


@pytest.mark.parametrize("bits_of_nan", [0x7F81, 0xFFC3])  # a signalling NaN, and a NaN with a payload
@pytest.mark.parametrize("pickled", [True, False])
def test_nan_payload_is_preserved(tiny: Path, tmp_path: Path, pickled: bool, bits_of_nan: int) -> None:
    path = tiny / "model.safetensors"
    state = {name: value.bfloat16() for name, value in load_file(path).items()}
    state[WTE].view(torch.uint16)[3, 4] = bits_of_nan
    path.unlink()
    if pickled:
        torch.save(state, tiny / "pytorch_model.bin")
    else:
        save_file(state, path)
    loaded = load_checkpoint(tiny, LoadOptions(allow_pickle=True, allow_nonfinite=True))  # numpy must not warn
    assert np.isnan(loaded.state_dict[WTE][3, 4])
    convert(tiny, tmp_path / "new", LoadOptions(allow_pickle=True, allow_nonfinite=True))
    assert bits(load_file(tmp_path / "new" / "model.safetensors")) == bits(state)
