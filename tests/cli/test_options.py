"""The command line on checkpoints of all formats, up to where MAX would compile."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file

from fixtures.checkpoints import Tensors, edit_weights
from fixtures.formats import NanoGPT, linear_state, nanogpt_content, write_gguf, write_llmc
from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint
from max_gpt2.config import GPT2Config
from max_gpt2.errors import MaxGPT2Error
from max_gpt2.generation import engine
from max_gpt2.verify.models import MaxImplementation, TorchImplementation
from tests.support.cli import Cli, Outcome

LN_F = "transformer.ln_f.bias"


@pytest.fixture
def nanogpt(tmp_path: Path) -> Path:
    """A checkpoint without biases, and without a tokenizer."""
    torch.save(nanogpt_content(NanoGPT(bias=False), bias=False), tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


def info(cli: Cli, *arguments: object) -> dict[str, object]:
    outcome = cli("info", "--json", "--model", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def shown_info(cli: Cli, *arguments: object) -> str:
    """The table as one line: its cells are as narrow as the terminal, and their words are broken into lines."""
    return " ".join(cli("info", "--model", *arguments).out.replace("│", " ").split())


def test_info_of_safetensors(cli: Cli, tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors.update({"score.weight": np.ones((2, 24), np.float16)}))
    edit_weights(tiny, lambda tensors: tensors.update({LN_F: tensors[LN_F].astype(np.float16)}))
    facts = info(cli, tiny)
    assert facts["format"] == "Hugging Face safetensors"
    assert facts["upcast"] == [LN_F]
    assert (facts["dequantised"], facts["zero_filled"]) == ({}, {})
    shown = shown_info(cli, tiny)
    assert "score.weight (head of another task)" in shown
    assert "converted exactly to float32" in shown


def test_info_of_nanogpt(cli: Cli, nanogpt: Path) -> None:
    facts = info(cli, nanogpt, "--allow-pickle")
    assert facts["format"] == "nanoGPT"
    assert facts["folder"] == str(nanogpt.parent)
    assert facts["transposed"] == [
        f"transformer.h.{layer}.{part}.weight"
        for layer in range(3)
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert facts["skipped"] == {"lm_head.weight": "equal to wte"}
    zero_filled = facts["zero_filled"]
    assert isinstance(zero_filled, dict)
    assert zero_filled[LN_F] == "model_args has bias=False"
    shown = shown_info(cli, nanogpt, "--allow-pickle")
    assert "model_args has bias=False" in shown
    assert "stored [out, in] as in Linear, used as [in, out]" in shown


def test_info_of_llmc_and_gguf(cli: Cli, tmp_path: Path) -> None:
    facts = info(cli, write_llmc(tmp_path / "gpt2.bin", linear_state(), version=5))
    assert facts["format"] == "llm.c"
    assert facts["stored_dtypes"] == ["BF16"]
    assert facts["skipped"] == {"wte[311:384]": "rows that pad the vocabulary"}
    weights = linear_state(n_embd=96, n_layer=2)
    file = write_gguf(tmp_path / "gpt2.gguf", weights, quantised=GGMLQuantizationType.Q8_0)
    dequantised = info(cli, file)["dequantised"]
    assert isinstance(dequantised, dict)
    assert dequantised["token_embd.weight"] == "Q8_0, dequantised to float32"
    assert "Q8_0, dequantised to float32" in shown_info(cli, file)


def refused(outcome: Outcome) -> str:
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("error: ") == 1
    return outcome.err


@pytest.mark.parametrize("command", ["info", "generate", "verify"])
def test_pickles_need_a_permission(cli: Cli, nanogpt: Path, command: str) -> None:
    message = refused(cli(command, "--model", nanogpt))
    assert f"{nanogpt} is a pickle" in message
    assert "--allow-pickle" in message


@pytest.mark.parametrize("command", ["generate", "verify"])
def test_a_tokenizer_is_asked_for(cli: Cli, nanogpt: Path, command: str) -> None:
    message = refused(cli(command, "--model", nanogpt, "--allow-pickle"))
    assert "has no tokenizer" in message
    assert "--tokenizer FOLDER" in message


def test_generate_hands_over_what_was_allowed(
    cli: Cli, nanogpt: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReachedError(MaxGPT2Error):
        pass

    content = torch.load(nanogpt)
    content["model"]["transformer.ln_f.weight"][3] = torch.nan
    torch.save(content, nanogpt)

    def stop(_config: GPT2Config, weights: Tensors, _kernels: str) -> None:
        raise ReachedError(f"{np.isnan(weights['transformer.ln_f.weight']).sum()} of {len(weights)}")

    monkeypatch.setattr(engine, "load_or_compile", stop)
    options = ["The dog", "--max-new-tokens", 3, "--model", nanogpt, "--tokenizer", tiny_original, "--allow-pickle"]
    assert "1 values that are NaN" in refused(cli("generate", *options))
    assert "error: 1 of 41" in refused(cli("generate", *options, "--allow-nonfinite"))


def verified(cli: Cli, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint, *options: object) -> dict[str, object]:
    """Verify with PyTorch on both sides: it computes with the weights that MAX would have been given."""
    monkeypatch.setattr(MaxImplementation, "compile", lambda *_, **__: TorchImplementation(checkpoint))
    outcome = cli("verify", "--json", *options)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_verify_hands_over_what_was_allowed(
    cli: Cli, nanogpt: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(nanogpt, LoadOptions(tokenizer=tiny_original, allow_pickle=True))
    options = ["--model", nanogpt, "--tokenizer", tiny_original, "--allow-pickle"]
    facts = verified(cli, monkeypatch, checkpoint, *options)
    assert facts["passed"] is True
    assert facts["reference"] == "transformers, with the weights loaded by max-gpt2"
    shown = cli("verify", *options).out
    assert "PyTorch: transformers, with the weights loaded by max-gpt2." in shown
    assert "MAX and PyTorch are equal" in shown
    content = torch.load(nanogpt)
    content["model"]["transformer.ln_f.weight"][3] = torch.inf
    torch.save(content, nanogpt)
    assert "1 values that are NaN" in refused(cli("verify", *options))


def test_transformers_reads_the_folders_of_hugging_face_itself(
    cli: Cli, tiny: Path, tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny)
    assert facts["reference"] == "transformers, which loaded the checkpoint itself"
    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    # A file is not a folder, which transformers would look through for better weights.
    facts = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny / "pytorch_model.bin", "--allow-pickle")
    assert facts["reference"] == "transformers, with the weights loaded by max-gpt2"
    (tiny / "pytorch_model.bin").rename(tiny / "other.bin")  # a name that says nothing to transformers
    (tiny / "model.safetensors").rename(tiny / "away")
    facts = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny / "other.bin", "--allow-pickle")
    assert facts["reference"] == "transformers, with the weights loaded by max-gpt2"
    (tiny / "away").rename(tiny / "pytorch_model.bin")  # safetensors inside
    facts = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny)
    assert facts["reference"] == "transformers, with the weights loaded by max-gpt2"
    (tiny / "other.bin").rename(tiny / "pytorch_model.bin")
    facts = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny, "--allow-pickle")
    assert facts["reference"] == "transformers, which loaded the checkpoint itself"
