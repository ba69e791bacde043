import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from fixtures.checkpoints import FLAGS, edit_config, edit_weights, random_ids, write_checkpoint, write_tokenizer
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import RequestError
from max_gpt2.model import BLOCK_STATES, CompiledModel
from max_gpt2.model.compile_cache import load_hidden_states
from max_gpt2.verify import verify
from max_gpt2.verify.models import MaxImplementation, TorchImplementation
from max_gpt2.weights import WTE
from tests.verify.faults import FAULTS, Fault


@pytest.fixture(scope="session")
def max_model(tiny_checkpoint: Checkpoint, tiny_model: CompiledModel) -> MaxImplementation:
    return MaxImplementation(tiny_model, load_hidden_states(tiny_checkpoint.config, tiny_checkpoint.state_dict))


def test_max_and_pytorch_are_equal_on_a_checkpoint(tiny_original: Path) -> None:
    report = verify(tiny_original)
    assert report.passed
    assert [result.prompt.name for result in report.results] == [
        "one token",
        "a sentence",
        "with emoji",
        "the full context",
    ]
    assert [len(result.prompt.tokens) for result in report.results][::3] == [1, 67]
    values = json.loads(json.dumps(report.to_json()))
    assert values["passed"] is True
    assert values["greedy_match"] is True
    assert values["argmax_agreement"] == 1
    assert 0 < values["max_abs_diff"] < 1e-5
    assert values["prompts"][0]["greedy_tokens"] == 16


def test_max_and_pytorch_are_equal_with_every_config_flag(tmp_path: Path) -> None:
    """Untied head, another n_inner, a vocabulary of 50304, another context, erf GELU, other scales."""
    report = verify(write_checkpoint(tmp_path, **FLAGS))
    assert report.passed
    assert report.to_json()["greedy_match"]
    assert min(one.largest for one in report.logits) > 1


def test_max_and_pytorch_are_equal_with_an_untied_head(tiny: Path) -> None:
    head = np.random.default_rng(0).standard_normal((311, 24), dtype=np.float32)
    edit_weights(tiny, lambda tensors: tensors.update({"lm_head.weight": head}))
    assert verify(tiny).passed


def with_fault(monkeypatch: pytest.MonkeyPatch, implementation: MaxImplementation, fault: Fault) -> None:
    """Plant a fault in PyTorch's model, and reuse the compiled MAX implementation."""
    load = TorchImplementation.__init__

    def load_with_fault(self: TorchImplementation, checkpoint: Path | Checkpoint) -> None:
        load(self, checkpoint)
        with torch.no_grad():
            fault(self._model)

    monkeypatch.setattr(TorchImplementation, "__init__", load_with_fault)
    monkeypatch.setattr(MaxImplementation, "compile", lambda *_, **__: implementation)


@pytest.mark.parametrize(("fault", "probe"), FAULTS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_planted_fault_is_located_by_the_first_divergence(
    tiny_original: Path,
    max_model: MaxImplementation,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    probe: str,
) -> None:
    with_fault(monkeypatch, max_model, fault)
    report = verify(tiny_original)
    assert not report.passed
    assert report.first_divergence is not None
    assert report.first_divergence.name == probe
    values = report.to_json()
    assert values["passed"] is False
    assert values["first_divergence"]["probe"] == probe
    assert values["first_divergence"]["max_abs_diff"] > 1e-4
    before = values["probes"][: [one["probe"] for one in values["probes"]].index(probe)]
    assert all(one["passed"] for one in before)


def test_unchanged_model_has_no_divergence(
    tiny_original: Path, max_model: MaxImplementation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fault(monkeypatch, max_model, lambda model: None)
    report = verify(tiny_original)
    assert report.passed
    assert report.to_json()["first_divergence"] is None


def test_hidden_states_match_transformers(
    tiny_original: Path, max_model: MaxImplementation, tiny_checkpoint: Checkpoint
) -> None:
    """By `output_hidden_states`, which the reference's hooks do not use."""
    ids = random_ids(1, 13)
    with torch.no_grad():
        model = transformers.GPT2LMHeadModel.from_pretrained(tiny_original).eval()
        expected = model(torch.from_numpy(ids), output_hidden_states=True).hidden_states
    states = max_model.compute(ids[0].tolist(), 0).states
    names = ["embeddings", "h.0", "h.1", "ln_f"]  # transformers shows the last block's output after ln_f only
    assert len(states) == 2 + 5 * 3
    for name, theirs in zip(names, expected, strict=True):
        np.testing.assert_allclose(states[name], theirs.numpy(), rtol=0, atol=1e-5, err_msg=name)


def test_equal_checkpoints_compare_equal_without_pytorch(
    tiny: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    report = verify(tiny, against=tiny_original)
    assert report.passed
    assert report.implementations == (str(tiny), str(tiny_original))
    assert {probe.difference.max_abs_diff for probe in report.probes} == {0.0}


def test_first_divergence_from_a_base_is_the_first_trained_layer(tiny: Path, tiny_original: Path) -> None:
    """Also compares the common ids and positions of two vocabularies and contexts."""
    bias = "transformer.h.1.mlp.c_fc.bias"
    edit_weights(tiny, lambda tensors: tensors.update({bias: tensors[bias] + np.float32(0.1)}))
    report = verify(tiny, against=tiny_original)
    assert not report.passed
    assert report.first_divergence is not None
    assert report.first_divergence.name == "h.1.mlp"
    assert {probe.name for probe in report.probes if probe.difference.max_abs_diff} == {
        "h.1.mlp",
        "h.1",
        *(f"h.2{part}" for part in BLOCK_STATES),
        "ln_f",
        "logits",
    }


def test_checkpoints_are_compared_on_their_common_vocabulary_and_context(tmp_path: Path, tiny_original: Path) -> None:
    report = verify(tiny_original, against=write_checkpoint(tmp_path, **FLAGS))
    assert [len(result.prompt.tokens) for result in report.results][-1] == 61
    assert not report.passed
    assert report.logits[0].positions == 1


@pytest.mark.parametrize(("changes", "sizes"), [({"n_layer": 2}, "n_layer 3 and 2"), ({"n_embd": 27}, "n_embd 24 and")])
def test_checkpoints_of_different_sizes_are_rejected(
    tmp_path: Path, tiny_original: Path, changes: dict[str, int], sizes: str
) -> None:
    with pytest.raises(RequestError, match=f"cannot be compared: {sizes}"):
        verify(tiny_original, against=write_checkpoint(tmp_path, **changes))


def test_vocabulary_too_small_for_the_prompts_is_rejected(tmp_path: Path, tiny_original: Path) -> None:
    other = write_checkpoint(tmp_path)
    write_tokenizer(other, 260)
    edit_config(other, vocab_size=260)
    edit_weights(other, lambda tensors: tensors.update({WTE: tensors[WTE][:260]}))
    with pytest.raises(RequestError, match="only 260 ids are in both checkpoints"):
        verify(tiny_original, against=other)


def test_reference_is_float32_for_any_file_dtype(tiny_original: Path) -> None:
    model = TorchImplementation(tiny_original)._model
    assert isinstance(model, transformers.GPT2LMHeadModel)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
