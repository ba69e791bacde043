"""`max-gpt2 info` and `max-gpt2 convert`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from fixtures.checkpoints import edit_config, edit_weights
from fixtures.formats import linear_state, write_gguf, write_llmc
from max_gpt2.checkpoint import load_checkpoint
from tests.support.cli import Cli, refused
from tests.support.hub import fill_cache
from tests.support.sources import gguf_quantised, nanogpt_without_biases

LN_F = "transformer.ln_f.bias"


def info(cli: Cli, *arguments: object) -> dict[str, object]:
    outcome = cli("info", "--json", "--model", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def shown_info(cli: Cli, *arguments: object) -> str:
    """Return the table with its wrapped cells joined into one line."""
    return " ".join(cli("info", "--model", *arguments).out.replace("│", " ").split())


def test_info_reports_config_and_layout(cli: Cli, tiny_original: Path) -> None:
    outcome = cli("info", "--model", tiny_original, "--json")
    result = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert result["config"]["n_inner"] == 96
    assert result["parameters"] == 30792
    assert result["tied"] is True
    assert result["transposed"] == []
    shown = cli("info", "--model", tiny_original)
    assert shown.code == 0
    assert all(text in shown.out for text in ("30,792", "transposed", "none", "tied"))


def test_info_lists_flags_without_effect(cli: Cli, tiny: Path) -> None:
    assert json.loads(cli("info", "--model", tiny, "--json").out)["no_effect"] == []
    assert "no effect" not in cli("info", "--model", tiny).out
    edit_config(tiny, reorder_and_upcast_attn=True)
    assert json.loads(cli("info", "--model", tiny, "--json").out)["no_effect"] == ["reorder_and_upcast_attn"]
    assert "reorder_and_upcast_attn has no effect" in " ".join(cli("info", "--model", tiny).out.split())


def test_info_reads_no_weights(cli: Cli, tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors.update({"transformer.ln_f.bias": np.full(24, np.nan, np.float32)}))
    assert cli("info", "--model", tiny).code == 0


def test_info_lists_skipped_and_upcast_tensors(cli: Cli, tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors.update({"score.weight": np.ones((2, 24), np.float16)}))
    edit_weights(tiny, lambda tensors: tensors.update({LN_F: tensors[LN_F].astype(np.float16)}))
    result = info(cli, tiny)
    assert result["format"] == "Hugging Face safetensors"
    assert result["upcast"] == [LN_F]
    assert (result["dequantised"], result["zero_filled"]) == ({}, {})
    shown = shown_info(cli, tiny)
    assert "score.weight (head of another task)" in shown
    assert "converted exactly to float32" in shown


def test_info_lists_transposed_and_zero_filled_tensors(cli: Cli, nanogpt: Path) -> None:
    result = info(cli, nanogpt, "--allow-pickle")
    assert result["format"] == "nanoGPT"
    assert result["folder"] == str(nanogpt.parent)
    assert result["transposed"] == [
        f"transformer.h.{layer}.{part}.weight"
        for layer in range(3)
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert result["skipped"] == {"lm_head.weight": "equal to wte"}
    zero_filled = result["zero_filled"]
    assert isinstance(zero_filled, dict)
    assert zero_filled[LN_F] == "model_args has bias=False"
    shown = shown_info(cli, nanogpt, "--allow-pickle")
    assert "model_args has bias=False" in shown
    assert "stored [out, in] as in Linear, used as [in, out]" in shown


def test_info_lists_padding_and_dequantised_tensors(cli: Cli, tmp_path: Path) -> None:
    result = info(cli, write_llmc(tmp_path / "gpt2.bin", linear_state(), version=5))
    assert result["format"] == "llm.c"
    assert result["stored_dtypes"] == ["BF16"]
    assert result["skipped"] == {"wte[311:384]": "rows that pad the vocabulary"}
    weights = linear_state(n_embd=96, n_layer=2)
    file = write_gguf(tmp_path / "gpt2.gguf", weights, quantised=GGMLQuantizationType.Q8_0)
    dequantised = info(cli, file, "--weights", "float32")["dequantised"]
    assert isinstance(dequantised, dict)
    assert dequantised["token_embd.weight"] == "Q8_0, dequantised to float32"
    assert "Q8_0, dequantised to float32" in shown_info(cli, file, "--weights", "float32")


def test_convert_reports_its_changes(cli: Cli, tmp_path: Path) -> None:
    made = nanogpt_without_biases(tmp_path)
    outcome = cli("convert", made.path, tmp_path / "new", "--allow-pickle", "--json")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    files = {path.name: path.stat().st_size for path in (tmp_path / "new").iterdir()}
    assert result["files"] == files
    assert result["bytes"] == sum(files.values())
    assert (result["model"], result["folder"], result["format"]) == (str(made.path), str(tmp_path / "new"), "nanoGPT")
    assert (result["tensors"], result["dtypes"], result["head"]) == (40, ["F32"], "stored and equal to wte, so tied")
    assert result["skipped"] == {"lm_head.weight": "equal to wte"}
    assert len(result["transposed"]) == 12
    assert set(result["zero_filled"].values()) == {"model_args has bias=False"}
    assert result["dequantised"] == {}
    shown = cli("convert", made.path, tmp_path / "other", "--allow-pickle")
    assert all(
        text in shown.out for text in ("nanoGPT", "40, F32", "transposed", "12: ", "19: ", f"{result['bytes']:,}")
    )
    assert "Writing the weights" in shown.err


def test_convert_lists_dequantised_tensors(cli: Cli, tmp_path: Path) -> None:
    made = gguf_quantised(tmp_path)
    result = json.loads(cli("convert", made.path, tmp_path / "new", "--json").out)
    assert result["dequantised"]["token_embd.weight"] == "Q8_0, dequantised to float32"
    assert result["dtypes"] == ["F32"]


def test_convert_accepts_a_hub_id(tiny_original: Path, tmp_path: Path) -> None:
    fill_cache(tmp_path / "hub", "openai-community/gpt2", tiny_original)
    command = [sys.executable, "-m", "max_gpt2", "convert", "gpt2", "new", "--json"]
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "new")
    assert load_checkpoint(tmp_path / "new").config == load_checkpoint(tiny_original).config


def test_convert_options_permit_unsafe_sources(cli: Cli, tmp_path: Path, tiny: Path) -> None:
    made = nanogpt_without_biases(tmp_path)
    new = tmp_path / "new"
    assert "--allow-pickle" in refused(cli("convert", made.path, new))
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    assert "--tokenizer FOLDER" in refused(cli("convert", made.path, new, "--allow-pickle"))
    assert cli("convert", made.path, new, "--allow-pickle", "--tokenizer", tiny).code == 0
    assert "add --force" in refused(cli("convert", tiny, new))
    assert cli("convert", tiny, new, "--force").code == 0
    edit_weights(tiny, lambda tensors: tensors.update({"transformer.ln_f.bias": np.full(24, np.inf, np.float32)}))
    assert "--allow-nonfinite" in cli("convert", tiny, tmp_path / "other").err
    assert cli("convert", tiny, tmp_path / "other", "--allow-nonfinite").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'SRC'"),
        (["demo"], "Missing argument 'DST'"),
        (["demo", "a", "b"], "unexpected extra argument"),
        (["demo", "no/such/place"], "Create it first"),
        (["./nothing", "new"], '"./nothing" does not exist'),
    ],
)
def test_convert_rejects_bad_arguments_before_writing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(cli("convert", *arguments))
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


SLOW = """
import sys, time
from rich.progress import Progress

def update(*_arguments, completed, total):
    if completed > total / 2:
        print("half", file=sys.stderr, flush=True)
        time.sleep(60)

Progress.update = update
from max_gpt2.cli import main
main()
"""


@pytest.mark.parametrize("force", [True, False])
def test_ctrl_c_during_convert_leaves_nothing_behind(tmp_path: Path, tiny: Path, force: bool) -> None:
    arguments = [str(tiny), "new", *(["--force"] if force else [])]
    if force:
        (tmp_path / "new").mkdir()
    command = [sys.executable, "-c", SLOW, "convert", *arguments]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        assert next(line for line in iter(process.stderr.readline, "") if "half" in line)
        (partial,) = tmp_path.glob(".new.partial-*")
        assert (partial / "model.safetensors").exists()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert "Stopped by Ctrl-C. Nothing was saved" in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == (["new", "tiny"] if force else ["tiny"])
    assert not force or list((tmp_path / "new").iterdir()) == []


def test_convert_works_without_pytorch(tiny_original: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; from max_gpt2.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "convert", str(tiny_original), str(tmp_path / "new")]
    subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
    load_checkpoint(tmp_path / "new")
