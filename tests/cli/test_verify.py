"""`max-gpt2 verify`."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fixtures.checkpoints import edit_weights
from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint
from max_gpt2.model import CompiledModel
from max_gpt2.verify.models import MaxImplementation, TorchImplementation
from tests.support.cli import Cli, refused


def test_verify(cli: Cli, tiny_original: Path) -> None:
    outcome = cli("verify", "--model", tiny_original, "--json")
    assert outcome.code == 0
    facts = json.loads(outcome.out)
    assert facts.keys() >= {"passed", "max_abs_diff", "max_rel_diff", "argmax_agreement", "greedy_match", "prompts"}
    shown = cli("verify", "--model", tiny_original)
    assert "MAX and PyTorch are equal: their logits differ by at most" in shown.out
    assert "max_abs_diff < 1e-04" in shown.out


def test_verify_exits_with_1_when_they_are_not_equal(
    cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from max_gpt2.verify import compare

    monkeypatch.setattr(sys.modules[compare.__module__], "ABSOLUTE", 0.0)
    monkeypatch.setattr(sys.modules[compare.__module__], "RELATIVE", 0.0)
    outcome = cli("verify", "--model", tiny_original)
    assert outcome.code == 1
    assert "MAX and PyTorch are NOT equal" in outcome.out


def test_verify_against_another_checkpoint_shows_where_they_part(
    cli: Cli, tiny: Path, tiny_original: Path, tmp_path: Path
) -> None:
    bias, page = "transformer.h.2.attn.c_proj.bias", tmp_path / "out.html"
    edit_weights(tiny, lambda tensors: np.add.at(tensors[bias], 3, 0.5))
    outcome = cli("verify", "--model", tiny, "--against", tiny_original, "--report", page)
    assert outcome.code == 1
    assert "First divergence: h.2.attn, by 5.0e-01 (relative" in outcome.out
    assert re.search(r"h\.2 +│ 0\.0e\+00 │ 5\.0e-01\* │", outcome.out)
    assert re.search(r"h\.1 +│( +0\.0e\+00 │){6}", outcome.out)
    assert '<strong class="bad">h.2.attn</strong>' in page.read_text()


def test_a_difference_that_the_logits_do_not_show(cli: Cli, tiny: Path, tiny_original: Path) -> None:
    """The LayerNorms take away what is the same in all channels."""
    bias = "transformer.h.2.attn.c_proj.bias"
    edit_weights(tiny, lambda tensors: tensors.update({bias: tensors[bias] + np.float32(0.5)}))
    outcome = cli("verify", "--model", tiny, "--against", tiny_original)
    assert outcome.code == 1
    assert "have different hidden states: their logits differ by at most" in outcome.out
    assert "(max_abs_diff < 1e-04)" in outcome.out
    assert "First divergence: h.2.attn" in outcome.out


def test_where_a_report_cannot_be_written_nothing_is_computed(cli: Cli, tmp_path: Path) -> None:
    refusal = refused(cli("verify", "--model", tmp_path / "nothing", "--report", tmp_path / "nowhere" / "out.html"))
    assert refusal == f"error: There is no folder {tmp_path / 'nowhere'} to write out.html into. Make it first.\n"


def test_json_stays_json_when_a_number_is_not_finite(
    cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CompiledModel, "logits", lambda _self, ids, first=0: np.full((1, ids.shape[1] - first, 311), np.nan)
    )
    outcome = cli("verify", "--model", tiny_original, "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out, parse_constant=lambda name: pytest.fail(name))["max_abs_diff"] is None


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
