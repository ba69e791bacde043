import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.checkpoint.layout import WTE
from max_gpt2.errors import RequestError
from max_gpt2.model import BLOCK_STATES, CompiledModel
from max_gpt2.model.compile import trace_model
from max_gpt2.verify import verify
from max_gpt2.verify.models import MaxSide, Reference
from tests.checkpoints import FLAGS, edit_config, edit_weights, random_ids, write_checkpoint, write_tokenizer
from tests.verify.faults import FAULTS, Fault


@pytest.fixture(scope="session")
def tiny_side(tiny_checkpoint: Checkpoint, tiny_model: CompiledModel) -> MaxSide:
    return MaxSide(tiny_model, trace_model(tiny_checkpoint.config, tiny_checkpoint.state_dict))


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
    assert min(one.largest for one in report.logits) > 1


def test_a_stored_head_that_is_not_equal(tiny: Path) -> None:
    head = np.random.default_rng(0).standard_normal((311, 24), dtype=np.float32)
    edit_weights(tiny, lambda tensors: tensors.update({"lm_head.weight": head}))
    assert verify(tiny).passed


def with_fault(monkeypatch: pytest.MonkeyPatch, side: MaxSide, fault: Fault) -> None:
    """Let PyTorch's model have a fault, and MAX answer with what is compiled already."""
    load = Reference.__init__

    def load_with_fault(self: Reference, checkpoint: Path | Checkpoint) -> None:
        load(self, checkpoint)
        with torch.no_grad():
            fault(self._model)

    monkeypatch.setattr(Reference, "__init__", load_with_fault)
    monkeypatch.setattr(MaxSide, "compile", lambda *_, **__: side)


@pytest.mark.parametrize(("fault", "place"), FAULTS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_found_by_name(
    tiny_original: Path, tiny_side: MaxSide, monkeypatch: pytest.MonkeyPatch, fault: Fault, place: str
) -> None:
    with_fault(monkeypatch, tiny_side, fault)
    report = verify(tiny_original)
    assert not report.passed
    assert report.first_difference is not None
    assert report.first_difference.name == place
    facts = report.to_json()
    assert facts["passed"] is False
    assert facts["first_difference"]["place"] == place
    assert facts["first_difference"]["max_abs_diff"] > 1e-4
    before = facts["places"][: [one["place"] for one in facts["places"]].index(place)]
    assert all(one["passed"] for one in before)


def test_no_fault_is_found_where_there_is_none(
    tiny_original: Path, tiny_side: MaxSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fault(monkeypatch, tiny_side, lambda model: None)
    report = verify(tiny_original)
    assert report.passed
    assert report.to_json()["first_difference"] is None


def test_the_hidden_states_are_those_of_transformers(
    tiny_original: Path, tiny_side: MaxSide, tiny_checkpoint: Checkpoint
) -> None:
    """By `output_hidden_states`, which the reference's hooks do not use."""
    ids = random_ids(1, 13)
    with torch.no_grad():
        model = transformers.GPT2LMHeadModel.from_pretrained(tiny_original).eval()
        expected = model(torch.from_numpy(ids), output_hidden_states=True).hidden_states
    states = tiny_side.answer(ids[0].tolist(), 0).states
    names = ["embeddings", "h.0", "h.1", "ln_f"]  # transformers shows the last block's output after ln_f only
    assert len(states) == 2 + 5 * 3
    for name, theirs in zip(names, expected, strict=True):
        np.testing.assert_allclose(states[name], theirs.numpy(), rtol=0, atol=1e-5, err_msg=name)


def test_two_equal_checkpoints_without_pytorch(
    tiny: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    report = verify(tiny, against=tiny_original)
    assert report.passed
    assert report.sides == (str(tiny), str(tiny_original))
    assert {place.difference.max_abs_diff for place in report.places} == {0.0}


def test_a_fine_tune_and_its_base(tiny: Path, tiny_original: Path) -> None:
    """The first layer that was trained is named, and of two vocabularies and contexts what both have is compared."""
    bias = "transformer.h.1.mlp.c_fc.bias"
    edit_weights(tiny, lambda tensors: tensors.update({bias: tensors[bias] + np.float32(0.1)}))
    report = verify(tiny, against=tiny_original)
    assert not report.passed
    assert report.first_difference is not None
    assert report.first_difference.name == "h.1.mlp"
    assert {place.name for place in report.places if place.difference.max_abs_diff} == {
        "h.1.mlp",
        "h.1",
        *(f"h.2{part}" for part in BLOCK_STATES),
        "ln_f",
        "logits",
    }


def test_two_checkpoints_with_other_vocabularies_and_contexts(tmp_path: Path, tiny_original: Path) -> None:
    report = verify(tiny_original, against=write_checkpoint(tmp_path, **FLAGS))
    assert [len(result.prompt.tokens) for result in report.results][-1] == 61
    assert not report.passed
    assert report.logits[0].positions == 1


@pytest.mark.parametrize(("changes", "sizes"), [({"n_layer": 2}, "n_layer 3 and 2"), ({"n_embd": 27}, "n_embd 24 and")])
def test_two_checkpoints_of_other_sizes_are_refused(
    tmp_path: Path, tiny_original: Path, changes: dict[str, int], sizes: str
) -> None:
    with pytest.raises(RequestError, match=f"cannot be compared: {sizes}"):
        verify(tiny_original, against=write_checkpoint(tmp_path, **changes))


def test_a_vocabulary_too_small_for_the_prompts_is_refused(tmp_path: Path, tiny_original: Path) -> None:
    other = write_checkpoint(tmp_path)
    write_tokenizer(other, 260)
    edit_config(other, vocab_size=260)
    edit_weights(other, lambda tensors: tensors.update({WTE: tensors[WTE][:260]}))
    with pytest.raises(RequestError, match="only 260 ids are in both checkpoints"):
        verify(tiny_original, against=other)


def test_the_reference_is_float32_whatever_the_file_is(tiny_original: Path) -> None:
    model = Reference(tiny_original)._model
    assert isinstance(model, transformers.GPT2LMHeadModel)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
