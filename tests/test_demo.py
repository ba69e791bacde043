"""The demo checkpoint of the package: its files, weights and model card."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open

from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.checkpoint.locate import DEMO
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify import verify
from tests.regression.demo_record import RECORD, key_paths

ROOT = Path(__file__).parent.parent
FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "README.md",
}


def test_demo_has_the_expected_files_and_size() -> None:
    assert {path.name for path in DEMO.iterdir()} == FILES
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 16e6


def test_demo_is_stored_like_published_checkpoints() -> None:
    with safe_open(DEMO / "model.safetensors", "pt") as file:
        stored = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        masks = {name for name in stored if name.endswith(".attn.bias")}
        assert masks == {"h.0.attn.bias", "h.1.attn.bias"}
        assert {stored[name].get_dtype() for name in stored.keys() - masks} == {"F16"}
        assert stored["h.0.mlp.c_fc.weight"].get_shape() == [256, 1024]
    assert not any(name.startswith(("transformer.", "lm_head")) for name in stored)


def test_transformers_loads_all_weights() -> None:
    load: Any = transformers.GPT2LMHeadModel.from_pretrained
    _, report = load(DEMO, output_loading_info=True, dtype=torch.float32)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]


def test_both_tokenizers_match_transformers(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((DEMO / name).read_bytes())
    ours, theirs = GPT2Tokenizer.from_folder(DEMO, 4096), transformers.AutoTokenizer.from_pretrained(DEMO)
    other = GPT2Tokenizer.from_folder(tmp_path, 4096)
    for text in ((DEMO / "README.md").read_text(), "It was a pleasure to", "naïve 🌍", "\n\n  x"):
        assert ours.encode(text) == other.encode(text) == theirs(text).input_ids
    assert ours.size == 4096
    assert ours.end_of_text == 4095


def test_demo_passes_verification() -> None:
    report = verify("demo")
    assert report.passed
    values = report.to_json()
    assert values["greedy_match"]
    assert key_paths(values) == json.loads(RECORD.read_text())["json_keys"]["verify"]


def test_model_card_has_the_measured_numbers() -> None:
    card = (DEMO / "README.md").read_text()
    assert f"A GPT-2 of {load_checkpoint('demo').plan.parameters:,} parameters" in card
    assert re.search(r"held-out chapters, .*: \*\*\d+\.\d+\*\*", card)
    assert re.findall(r"^(\d)\. \w", card, re.MULTILINE) == [str(seed) for seed in range(10)]


def test_demo_is_part_of_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    if built.returncode:
        pytest.fail(built.stderr)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if "/demo/" in name}
    assert {Path(name).name for name in names} == FILES
