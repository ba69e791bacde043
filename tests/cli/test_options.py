"""The loading options, which all commands share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.checkpoints import Tensors
from max_gpt2.config import GPT2Config
from max_gpt2.errors import MaxGPT2Error
from max_gpt2.generation import engine
from tests.support.cli import Cli, refused


@pytest.mark.parametrize("command", ["info", "generate", "verify"])
def test_pickle_requires_allow_pickle(cli: Cli, nanogpt: Path, command: str) -> None:
    message = refused(cli(command, "--model", nanogpt))
    assert f"{nanogpt} is a pickle" in message
    assert "--allow-pickle" in message


@pytest.mark.parametrize("command", ["generate", "verify"])
def test_missing_tokenizer_suggests_the_option(cli: Cli, nanogpt: Path, command: str) -> None:
    message = refused(cli(command, "--model", nanogpt, "--allow-pickle"))
    assert "has no tokenizer" in message
    assert "--tokenizer FOLDER" in message


def test_generate_applies_the_options(
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
