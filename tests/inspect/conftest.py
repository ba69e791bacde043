from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from fixtures.checkpoints import UNEVEN, as_linear
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.inspect import Tracer
from max_gpt2.inspect.module import ModuleTracer
from max_gpt2.model.compile_cache import load_or_compile_stages
from max_gpt2.model.stages import Stages
from solutions.solution_01 import GPT2Config
from solutions.solution_13 import MaxGPT2LMHeadModel


@pytest.fixture(scope="session")
def tracer(tiny_checkpoint: Checkpoint) -> Tracer:
    config = tiny_checkpoint.config
    return Tracer(Stages(config, load_or_compile_stages(), tiny_checkpoint.state_dict), tiny_checkpoint.tokenizer)


@pytest.fixture(scope="session")
def module_tracer(tiny_checkpoint: Checkpoint) -> ModuleTracer:
    """The tiny checkpoint in the model of the tutorial; MAX's interpreter runs it without a graph to compile."""
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
    model = MaxGPT2LMHeadModel(GPT2Config(**{name: UNEVEN[name] for name in names}))
    model.load_state_dict(as_linear(tiny_checkpoint.state_dict))
    return ModuleTracer.of(model, tiny_checkpoint.tokenizer)


@pytest.fixture(scope="session")
def torch_model(tiny_original: Path) -> Any:
    return GPT2LMHeadModel.from_pretrained(tiny_original, dtype=torch.float32, attn_implementation="eager").eval()
