from pathlib import Path

import pytest
import torch

from fixtures.formats import NanoGPT, nanogpt_content


@pytest.fixture
def nanogpt(tmp_path: Path) -> Path:
    """A nanoGPT checkpoint without biases and without a tokenizer."""
    torch.save(nanogpt_content(NanoGPT(bias=False), bias=False), tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"
