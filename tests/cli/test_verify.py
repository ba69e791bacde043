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
from max_gpt2.generation import open_model
from max_gpt2.generation.fingerprint import fingerprint
from max_gpt2.model import CompiledModel
from max_gpt2.verify.models import MaxImplementation, TorchImplementation
from max_gpt2.verify.verdicts import read_verdict
from tests.support.adapters import save_adapter
from tests.support.cli import Cli, refused


def test_equal_implementations_exit_with_0(cli: Cli, tiny_original: Path) -> None:
    outcome = cli("verify", "--model", tiny_original, "--json")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    kept = read_verdict(fingerprint(open_model(tiny_original)))
    assert kept
    assert (kept.passed, kept.max_abs_diff) == (True, result["max_abs_diff"])
    assert result.keys() >= {"passed", "max_abs_diff", "max_rel_diff", "argmax_agreement", "greedy_match", "prompts"}
    shown = cli("verify", "--model", tiny_original)
    assert "MAX and PyTorch are equal: their logits differ by at most" in shown.out
    assert "max_abs_diff < 1e-04" in shown.out
    assert "Tokenizer: ids and decoded texts of 15 texts equal those of transformers" in shown.out


def test_adapter_is_compared_with_peft(cli: Cli, tiny_original: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tiny_original, tmp_path, target_modules=["c_attn", "attn.c_proj"])
    outcome = cli("verify", "--model", tiny_original, "--adapter", f"{adapter}:0.5", "--json")
    assert outcome.code == 0, outcome.out
    assert json.loads(outcome.out)["reference"] == (
        "transformers, which loaded the checkpoint itself; PEFT added the adapters"
    )


def test_tokenizer_that_is_not_compared_is_mentioned(
    cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_gpt2.verify.tokenizers._load", lambda tokenizer: None)
    assert "Tokenizer: not compared" in cli("verify", "--model", tiny_original).out


def test_unequal_implementations_exit_with_1(cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from max_gpt2.verify import compare

    monkeypatch.setattr(sys.modules[compare.__module__], "ABSOLUTE", 0.0)
    monkeypatch.setattr(sys.modules[compare.__module__], "RELATIVE", 0.0)
    outcome = cli("verify", "--model", tiny_original)
    assert outcome.code == 1
    assert "MAX and PyTorch are NOT equal" in outcome.out


def test_against_reports_the_first_divergence(cli: Cli, tiny: Path, tiny_original: Path, tmp_path: Path) -> None:
    bias, page = "transformer.h.2.attn.c_proj.bias", tmp_path / "out.html"
    edit_weights(tiny, lambda tensors: np.add.at(tensors[bias], 3, 0.5))
    outcome = cli("verify", "--model", tiny, "--against", tiny_original, "--report", page)
    assert outcome.code == 1
    assert "First divergence: h.2.attn, by 5.0e-01 (relative" in outcome.out
    assert re.search(r"h\.2 +│ 0\.0e\+00 │ 5\.0e-01\* │", outcome.out)
    assert re.search(r"h\.1 +│( +0\.0e\+00 │){6}", outcome.out)
    assert '<strong class="bad">h.2.attn</strong>' in page.read_text()


def test_difference_only_in_hidden_states_fails(cli: Cli, tiny: Path, tiny_original: Path) -> None:
    """LayerNorm removes an offset that all channels share."""
    bias = "transformer.h.2.attn.c_proj.bias"
    edit_weights(tiny, lambda tensors: tensors.update({bias: tensors[bias] + np.float32(0.5)}))
    outcome = cli("verify", "--model", tiny, "--against", tiny_original)
    assert outcome.code == 1
    assert "have different hidden states: their logits differ by at most" in outcome.out
    assert "(max_abs_diff < 1e-04)" in outcome.out
    assert "First divergence: h.2.attn" in outcome.out


def test_unwritable_report_is_rejected_before_loading(cli: Cli, tmp_path: Path) -> None:
    report = tmp_path / "nowhere" / "out.html"
    refusal = refused(cli("verify", "--model", tmp_path / "nothing", "--report", report))
    assert refusal == f"error: Cannot write {report}: the folder {report.parent} does not exist. Create it first.\n"


def test_nonfinite_numbers_are_null_in_json(cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CompiledModel, "logits", lambda _self, ids, first=0: np.full((1, ids.shape[1] - first, 311), np.nan)
    )
    outcome = cli("verify", "--model", tiny_original, "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out, parse_constant=lambda name: pytest.fail(name))["max_abs_diff"] is None


def verified(cli: Cli, monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint, *options: object) -> dict[str, object]:
    """Run verify with a PyTorch model of `checkpoint` instead of MAX; return the JSON report."""
    monkeypatch.setattr(MaxImplementation, "compile", lambda *_, **__: TorchImplementation(checkpoint))
    outcome = cli("verify", "--json", *options)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_loading_options_apply_to_both_implementations(
    cli: Cli, nanogpt: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(nanogpt, LoadOptions(tokenizer=tiny_original, allow_pickle=True))
    options = ["--model", nanogpt, "--tokenizer", tiny_original, "--allow-pickle"]
    result = verified(cli, monkeypatch, checkpoint, *options)
    assert result["passed"] is True
    assert result["reference"] == "transformers, with the weights loaded by max-gpt2"
    shown = cli("verify", *options).out
    assert "PyTorch: transformers, with the weights loaded by max-gpt2." in shown
    assert "MAX and PyTorch are equal" in shown
    content = torch.load(nanogpt)
    content["model"]["transformer.ln_f.weight"][3] = torch.inf
    torch.save(content, nanogpt)
    assert "1 values that are NaN" in refused(cli("verify", *options))


def test_transformers_loads_hugging_face_folders_itself(
    cli: Cli, tiny: Path, tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny)
    assert result["reference"] == "transformers, which loaded the checkpoint itself"
    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    # transformers loads a folder only: in one, it would prefer the safetensors file.
    result = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny / "pytorch_model.bin", "--allow-pickle")
    assert result["reference"] == "transformers, with the weights loaded by max-gpt2"
    (tiny / "pytorch_model.bin").rename(tiny / "other.bin")  # a name unknown to transformers
    (tiny / "model.safetensors").rename(tiny / "away")
    result = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny / "other.bin", "--allow-pickle")
    assert result["reference"] == "transformers, with the weights loaded by max-gpt2"
    (tiny / "away").rename(tiny / "pytorch_model.bin")  # a safetensors file under a pickle's name
    result = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny)
    assert result["reference"] == "transformers, with the weights loaded by max-gpt2"
    (tiny / "other.bin").rename(tiny / "pytorch_model.bin")
    result = verified(cli, monkeypatch, tiny_checkpoint, "--model", tiny, "--allow-pickle")
    assert result["reference"] == "transformers, which loaded the checkpoint itself"
