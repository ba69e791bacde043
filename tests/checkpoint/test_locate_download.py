"""The whole way from a hub to a folder: the real client, in a process of its own, against a hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.hub import Hub

PROGRAM = "import sys; from max_gpt2.cli import main; main()"


def info(model: str, hub: Hub, home: Path, *options: str, offline: str = "0") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline}
    environment |= {"HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", PROGRAM, "info", "--model", model, "--json", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_a_model_is_downloaded_once_and_then_served_from_the_cache(tiny: Path, tmp_path: Path, name: str) -> None:
    (tiny / "pytorch_model.bin").write_bytes(b"not wanted")
    of_the_tokenizer = {"added_tokens.json", "special_tokens_map.json", "tokenizer_config.json", "chat_template.jinja"}
    for file in of_the_tokenizer:
        (tiny / file).write_text(json.dumps({"name": file}))  # equal files would be downloaded once
    home = tmp_path / "home"
    with Hub("openai-community/gpt2", tiny) as hub:
        first = info(name, hub, home)
        assert first.returncode == 0, first.stderr
        facts = json.loads(first.stdout)
        assert facts["parameters"] == 30792
        assert facts["folder"].startswith(str(home / "hub" / "models--openai-community--gpt2"))
        assert of_the_tokenizer | {"model.safetensors", "tokenizer.json", "generation_config.json"} <= set(hub.asked)
        assert "pytorch_model.bin" not in hub.asked
        downloaded = len(hub.asked)
        assert info(name, hub, home).returncode == 0
        assert len(hub.asked) == downloaded
    assert info(name, hub, home).returncode == 0  # the hub is gone
    assert info(name, hub, home, offline="1").returncode == 0


def test_a_model_that_the_hub_does_not_have(tiny: Path, tmp_path: Path) -> None:
    with Hub("openai-community/gpt2", tiny) as hub:
        refusal = info("someone/else", hub, tmp_path)
    assert refusal.returncode == 2
    assert refusal.stdout == ""
    assert "no public model someone/else on the Hugging Face hub" in refusal.stderr
    assert "hf auth login" in refusal.stderr
    assert "Traceback" not in refusal.stderr


def test_pickles_are_downloaded_only_when_allowed_and_there_is_nothing_better(tiny: Path, tmp_path: Path) -> None:
    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    with Hub("someone/both", tiny) as hub:
        assert json.loads(info("someone/both", hub, tmp_path, "--allow-pickle").stdout)["parameters"] == 30792
        assert "pytorch_model.bin" not in hub.asked
    (tiny / "model.safetensors").unlink()
    with Hub("someone/old", tiny) as hub:
        refusal = info("someone/old", hub, tmp_path)
        assert refusal.returncode == 2
        assert "pytorch_model.bin alone is downloaded with --allow-pickle" in refusal.stderr
        assert "pytorch_model.bin" not in hub.asked
        facts = json.loads(info("someone/old", hub, tmp_path, "--allow-pickle").stdout)
        assert (facts["format"], facts["parameters"]) == ("Hugging Face pickle", 30792)
