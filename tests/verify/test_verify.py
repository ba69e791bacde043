import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from max_gpt2.checkpoint import Checkpoint, load_checkpoint
from max_gpt2.verify import run as run_module
from max_gpt2.verify import verify
from tests.checkpoints import FLAGS, edit_weights, write_checkpoint

Weights = dict[str, np.ndarray]


def test_a_checkpoint_passes(tiny_original: Path) -> None:
    report = verify(tiny_original)
    assert report.passed
    assert [result.prompt.name for result in report.results] == [
        "one token",
        "a sentence",
        "with emoji",
        "the full context",
    ]
    assert [len(result.prompt.tokens) for result in report.results][::3] == [1, 67]
    facts = json.loads(json.dumps(report.to_json()))
    assert facts["passed"] is True
    assert facts["greedy_match"] is True
    assert facts["argmax_agreement"] == 1
    assert 0 < facts["max_abs_diff"] < 1e-5
    assert facts["prompts"][0]["greedy_tokens"] == 16


def test_every_flag_that_the_tutorial_leaves_out(tmp_path: Path) -> None:
    """Untied head, another n_inner, a vocabulary of 50304, another context, erf GELU, other scales."""
    report = verify(write_checkpoint(tmp_path, **FLAGS))
    assert report.passed
    assert report.to_json()["greedy_match"]
    assert report.total.largest_logit > 1


def test_a_stored_head_that_is_not_equal(tiny: Path) -> None:
    head = np.random.default_rng(0).standard_normal((311, 24), dtype=np.float32)
    edit_weights(tiny, lambda tensors: tensors.update({"lm_head.weight": head}))
    assert verify(tiny).passed


def transposed_c_proj(weights: Weights) -> None:
    name = "transformer.h.1.attn.c_proj.weight"
    weights[name] = np.ascontiguousarray(weights[name].T)


def swapped_query_and_key(weights: Weights) -> None:
    name = "transformer.h.0.attn.c_attn.weight"
    query, key, value = np.split(weights[name], 3)
    weights[name] = np.concatenate([key, query, value])


def shifted_positions(weights: Weights) -> None:
    weights["transformer.wpe.weight"] = np.roll(weights["transformer.wpe.weight"], 1, axis=0)


def untied_head(weights: Weights) -> None:
    weights["lm_head.weight"] = weights["lm_head.weight"] * np.float32(1.001)


def dropped_bias(weights: Weights) -> None:
    weights["transformer.h.2.mlp.c_proj.bias"] = np.zeros(24, np.float32)


@pytest.mark.parametrize(
    "fault", [transposed_c_proj, swapped_query_and_key, shifted_positions, untied_head, dropped_bias]
)
def test_a_fault_does_not_pass(tiny_original: Path, monkeypatch: pytest.MonkeyPatch, fault: object) -> None:
    def load_with_fault(folder: Path, **options: Any) -> Checkpoint:
        checkpoint = load_checkpoint(folder, **options)
        assert callable(fault)
        fault(checkpoint.state_dict)
        return checkpoint

    monkeypatch.setattr(run_module, "load_checkpoint", load_with_fault)
    report = verify(tiny_original)
    assert not report.passed
    assert report.to_json()["passed"] is False


def test_the_reference_is_float32_whatever_the_file_is(tiny_original: Path) -> None:
    from max_gpt2.verify.reference import Reference

    model = Reference(tiny_original)._model
    assert isinstance(model, transformers.GPT2LMHeadModel)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
