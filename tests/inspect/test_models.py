"""Activations and edits equal those of transformers for every field of the config, the demo and the size of gpt2."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from fixtures.checkpoints import FLAGS, write_checkpoint
from max_gpt2 import GPT2
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.checkpoint.locate import DEMO
from max_gpt2.config import ACTIVATIONS, SIZES, GPT2Config
from max_gpt2.inspect import Tracer
from max_gpt2.model.stages import Stages
from tests.support.activations import assert_equal, texts, torch_activations
from tests.support.edits import check_model
from tools import make_checkpoint

#: A change of each field that is not in the graphs of the stages, so that those of the tiny checkpoint serve it.
SAME_GRAPHS: list[dict[str, Any]] = [
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    {"reorder_and_upcast_attn": True},
    {"tie_word_embeddings": False},
    {"n_inner": 56},
    {"vocab_size": 50304},
    {"n_positions": 61},
]
#: One name for each activation function but gelu_tanh and gelu_erf, those of the tiny checkpoint and of FLAGS.
FUNCTIONS = ["quick_gelu", "relu", "silu", "tanh"]


def load(folder: Path) -> Any:
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def check(folder: Path, length: int = 13) -> None:
    """Compare activations and edits with PyTorch's, and the logits with those of the engine, bitwise."""
    gpt2 = GPT2.from_pretrained(folder)
    check_model(gpt2.trace([0], ["ln_f"]).tracer, load(folder), length)
    (ids,) = texts(gpt2.config, gpt2.config.n_positions)
    trace = gpt2.trace(ids, at=["logits"])
    np.testing.assert_array_equal(trace["logits"], gpt2.engine.model.logits(np.array([ids]))[0])


def test_every_field_is_tested() -> None:
    own = {"eos_token_ids", "bos_token_id", "layer_norm_epsilon", "activation_function"}  # of the tiny checkpoint
    sizes = {"n_embd", "n_layer", "n_head"}
    assert own | sizes | {name for one in SAME_GRAPHS for name in one} == set(GPT2Config.__dataclass_fields__)
    assert {ACTIVATIONS[name] for name in FUNCTIONS} == set(ACTIVATIONS.values()) - {"gelu_tanh", "gelu_erf"}


@pytest.mark.parametrize("changes", SAME_GRAPHS, ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()))
def test_field_of_the_config(tracer: Tracer, tmp_path: Path, changes: dict[str, Any]) -> None:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path, **changes))
    stages = Stages(checkpoint.config, tracer.stages.graphs, checkpoint.state_dict)
    check_model(replace(tracer, stages=stages), load(tmp_path))


def test_demo() -> None:
    check(DEMO, 37)


@pytest.mark.slow
def test_all_fields(tmp_path: Path) -> None:
    check(write_checkpoint(tmp_path, **FLAGS))


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation_function(tmp_path: Path, name: str) -> None:
    check(write_checkpoint(tmp_path, activation_function=name))


@pytest.mark.slow
def test_size_of_gpt2(tmp_path: Path) -> None:
    make_checkpoint.write_checkpoint(SIZES["gpt2"], tmp_path)
    check(tmp_path, 100)
    gpt2 = GPT2.from_pretrained(tmp_path)
    ids, other = texts(gpt2.config, gpt2.config.n_positions, 3)
    trace, _ = gpt2.trace([ids, other], at=["h.*", "h.5.**", "logits"])
    expected = torch_activations(load(tmp_path), ids)
    assert_equal(trace, expected)
