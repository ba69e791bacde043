from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.inspect import Tracer
from max_gpt2.model.compile_cache import load_or_compile_stages
from max_gpt2.model.stages import Stages


@pytest.fixture(scope="session")
def tracer(tiny_checkpoint: Checkpoint) -> Tracer:
    config = tiny_checkpoint.config
    return Tracer(Stages(config, load_or_compile_stages(config), tiny_checkpoint.state_dict), tiny_checkpoint.tokenizer)


@pytest.fixture(scope="session")
def torch_model(tiny_original: Path) -> Any:
    return GPT2LMHeadModel.from_pretrained(tiny_original, dtype=torch.float32, attn_implementation="eager").eval()
