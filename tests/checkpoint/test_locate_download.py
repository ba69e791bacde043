"""Downloads with the real hub client, in a separate process, from a fake hub on this machine."""

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
def test_model_is_downloaded_once_and_then_cached(tiny: Path, tmp_path: Path, name: str) -> None:
    (tiny / "pytorch_model.bin").write_bytes(b"must not be downloaded")
    tokenizer_files = {"added_tokens.json", "special_tokens_map.json", "tokenizer_config.json", "chat_template.jinja"}
    for file in tokenizer_files:
        (tiny / file).write_text(
            json.dumps({"name": file})
        )  # the content differs, as equal files are downloaded only once
    home = tmp_path / "home"
    with Hub("openai-community/gpt2", tiny) as hub:
        first = info(name, hub, home)
        assert first.returncode == 0, first.stderr
        result = json.loads(first.stdout)
        assert result["parameters"] == 30792
        assert result["folder"].startswith(str(home / "hub" / "models--openai-community--gpt2"))
        assert tokenizer_files | {"model.safetensors", "tokenizer.json", "generation_config.json"} <= set(hub.downloads)
        assert "pytorch_model.bin" not in hub.downloads
        downloaded = len(hub.downloads)
        assert info(name, hub, home).returncode == 0
        assert len(hub.downloads) == downloaded
    assert info(name, hub, home).returncode == 0  # the hub is stopped
    assert info(name, hub, home, offline="1").returncode == 0


def test_unknown_model_is_one_error(tiny: Path, tmp_path: Path) -> None:
    with Hub("openai-community/gpt2", tiny) as hub:
        failed = info("someone/else", hub, tmp_path)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "nor a public model on the Hugging Face hub" in failed.stderr
    assert "hf auth login" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_pickle_is_downloaded_only_if_allowed_and_needed(tiny: Path, tmp_path: Path) -> None:
    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    with Hub("someone/both", tiny) as hub:
        assert json.loads(info("someone/both", hub, tmp_path, "--allow-pickle").stdout)["parameters"] == 30792
        assert "pytorch_model.bin" not in hub.downloads
    (tiny / "model.safetensors").unlink()
    with Hub("someone/old", tiny) as hub:
        failed = info("someone/old", hub, tmp_path)
        assert failed.returncode == 2
        assert "only has pytorch_model.bin, add --allow-pickle" in failed.stderr
        assert "pytorch_model.bin" not in hub.downloads
        result = json.loads(info("someone/old", hub, tmp_path, "--allow-pickle").stdout)
        assert (result["format"], result["parameters"]) == ("Hugging Face pickle", 30792)
