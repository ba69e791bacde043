"""`max-gpt2 convert --to gguf`."""

import json
from pathlib import Path

import pytest
import torch

from fixtures.checkpoints import edit_config
from max_gpt2.checkpoint import load_checkpoint
from tests.support.cli import Cli, refused
from tests.support.sources import gguf_quantised


def test_file_is_written_and_described(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.gguf"
    outcome = cli("convert", tiny, target, "--to", "gguf", "--type", "Q4_0", "--json")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    assert (result["model"], result["file"], result["format"]) == (str(tiny), str(target), "Hugging Face safetensors")
    assert (result["type"], result["bytes"], result["parameters"]) == ("q4_0", target.stat().st_size, 30792)
    assert result["types"]["blk.2.ffn_down.weight"] == "Q4_0"
    assert len(result["types"]) == 40
    assert result["other_types"]["token_embd.weight"] == "rows of 24 are not a multiple of the block of Q4_0"
    assert (result["notes"], result["head"], result["skipped"]) == ([], "tied", {})
    assert load_checkpoint(target).plan.format == "GGUF"


def test_table_shows_types_and_notes(cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tiny / "generation_config.json").unlink()
    edit_config(tiny, eos_token_id=[5, 299])
    outcome = cli("convert", tiny, tmp_path / "new.gguf", "--to", "gguf", "--type", "q8_0")
    shown = " ".join(outcome.out.replace("│", " ").split())
    assert "40: 10 F16, 27 F32, 3 Q8_0" in shown
    assert "blk.0.attn_qkv.weight, F16 (rows of 24 are not a multiple of the block of Q8_0)" in shown
    assert "GGUF holds one end-of-text id: 5 of [5, 299]." in shown
    assert "Writing the weights" in outcome.err


def test_dequantised_tensors_are_listed(cli: Cli, tmp_path: Path) -> None:
    made = gguf_quantised(tmp_path)
    result = json.loads(cli("convert", made.path, tmp_path / "a.gguf", "--to", "gguf", "--json").out)
    assert (result["type"], result["dequantised"]) == ("q8_0", {"position_embd.weight": "Q8_0, dequantised"})
    result = json.loads(cli("convert", made.path, tmp_path / "b.gguf", "--to", "gguf", "--type", "f16", "--json").out)
    assert (result["type"], result["dequantised"]["token_embd.weight"]) == ("f16", "Q8_0, dequantised")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "--type", "f16"], "--type needs --to gguf. Add it, or remove --type."),
        (["new.gguf"], "new.gguf ends in .gguf. Add --to gguf"),
        (["new.gguf", "--to", "gguf", "--type", "q4_k"], "needs llama.cpp's quantizer"),
        (["new.gguf", "--to", "gguf", "--type", "int8"], "--type 'int8' is not one of f32, f16"),
        (["new.gguf", "--to", "onnx"], "'onnx' is not one of 'safetensors', 'gguf'"),
        (["no/such/new.gguf", "--to", "gguf"], "Create it first"),
    ],
)
def test_bad_arguments_are_rejected_before_writing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(cli("convert", "demo", *arguments))
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_options_of_loading_apply(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    weights = load_checkpoint(tiny).state_dict
    torch.save({name: torch.tensor(value) for name, value in weights.items()}, tiny / "pytorch_model.bin")
    (tiny / "model.safetensors").unlink()
    target = tmp_path / "new.gguf"
    assert "--allow-pickle" in refused(cli("convert", tiny, target, "--to", "gguf"))
    assert cli("convert", tiny, target, "--to", "gguf", "--allow-pickle").code == 0
    assert "add --force" in refused(cli("convert", tiny, target, "--to", "gguf", "--allow-pickle"))
    assert cli("convert", tiny, target, "--to", "gguf", "--allow-pickle", "--force").code == 0
