"""Edits equal the same edits made with hooks in PyTorch."""

from dataclasses import replace as with_fields
from typing import Any

import numpy as np
import pytest
import torch

from max_gpt2.errors import RequestError
from max_gpt2.inspect import Edit, Tracer, ablate_head, attribution, patch, scale, steer, zero
from max_gpt2.inspect.probes import shape
from tests.support.activations import texts
from tests.support.edits import at, changed, check_edits, check_model, editable

LENGTH = 13


def edited(tracer: Tracer, *edits: Edit) -> Tracer:
    return with_fields(tracer, edits=edits)


def test_every_edit_equals_pytorch(tracer: Tracer, torch_model: Any) -> None:
    check_model(tracer, torch_model)


def test_replaced_pattern_is_that_of_its_own_text_in_a_batch(tracer: Tracer) -> None:
    several = texts(tracer.config, LENGTH, 5, 9)
    first = edited(tracer, zero("h.1.attn.pattern", heads=[0], positions=[3]), scale("h.0.attn.pattern", 0.5))
    for ids, trace in zip(several, first.trace(several, ["logits", "h.*.attn.z"]), strict=True):
        (alone,) = first.trace([ids], ["logits", "h.*.attn.z"])
        for name, value in alone.items():
            np.testing.assert_array_equal(trace[name], value, err_msg=name)


def test_patch_without_a_source_is_refused(tracer: Tracer) -> None:
    (source,) = tracer.trace(texts(tracer.config, 9), ["h.1"])
    with pytest.raises(RequestError, match="Position 9 is not in the source of the patch: it has 9 tokens"):
        patch("h.1", source, positions=[9])
    with pytest.raises(RequestError, match=r'"h\.0" was not traced'):
        patch("h.0", source)


def test_edits_of_one_activation_compose_in_order(tracer: Tracer, torch_model: Any) -> None:
    vector = np.ones(tracer.config.n_embd, dtype=np.float32)
    both = [steer("h.0", vector, 2), scale("h.0", 3)]
    check_edits(tracer, torch_model, both, at("h.0", lambda value: (value + 2) * 3))
    check_edits(tracer, torch_model, both[::-1], at("h.0", lambda value: value * 3 + 2))


def test_edits_of_several_activations_see_each_other(tracer: Tracer, torch_model: Any) -> None:
    vector = np.linspace(-1, 2, tracer.config.n_embd, dtype=np.float32)
    edits = [scale("h.1.attn.pattern", 0.5), steer("h.0", vector, 2), zero("h.*.mlp", positions=[3])]

    def change(name: str, value: torch.Tensor) -> torch.Tensor:
        if name == "h.0":
            return value + 2 * torch.from_numpy(vector)
        if name == "h.1.attn.pattern":
            return value / 2
        return changed(value, 3, torch.zeros_like) if name.endswith(".mlp") else value

    check_edits(tracer, torch_model, edits, change)


def test_no_effective_edit_leaves_the_logits_bitwise(tracer: Tracer) -> None:
    (ids,) = texts(tracer.config, LENGTH)
    (plain,) = tracer.trace([ids], ["**"])
    same = [scale(name, 1) for name in editable(tracer.config, 1)] + [patch("h.1", plain), zero("h.0", positions=[])]
    (trace,) = edited(tracer, *same).trace([ids], ["**"])
    for name, value in plain.items():
        np.testing.assert_array_equal(trace[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (zero("h.1.mlp.pre"), r"h\.1\.mlp\.pre cannot be edited: it is computed from others\. Edit mlp\.post"),
        (zero("h.1.attn.scores"), r"Edit attn\.pattern"),
        (ablate_head(9, 0), "the layers 0 to 2"),
        (ablate_head(0, 9), "Head 9 does not exist: the model has the heads 0 to"),
        (zero("h.1", heads=[0]), r"h\.1 has no heads"),
        (zero("h.1.attention"), "The nearest names are"),
    ],
)
def test_invalid_edits_are_refused(tracer: Tracer, edit: Edit, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        edited(tracer, edit).trace([[1, 2]], ["logits"])


def test_attribution_of_an_edited_stream_is_refused(tracer: Tracer) -> None:
    (trace,) = edited(tracer, zero("h.1")).trace([[1, 2]], ["logits"])
    with pytest.raises(RequestError, match=r"h\.1 is edited, so no part wrote it"):
        attribution(trace, 1)
    (trace,) = edited(tracer, ablate_head(1, 0)).trace([[1, 2]], ["logits"])
    found = attribution(trace, 1)
    assert found.heads[1, 0] == pytest.approx(0)
    parts = [found.embeddings, found.heads.sum(), found.mlps.sum(), found.biases.sum(), found.ln_f]
    assert sum(map(float, parts)) == pytest.approx(found.total, abs=1e-4)
    (plain,) = tracer.trace([[1, 2]], ["logits"])
    (doubled,) = edited(tracer, scale("logits", 2, positions=[1])).trace([[1, 2]], ["h.0", "logits"])
    np.testing.assert_array_equal(doubled["logits"], plain["logits"] * [[1], [2]])
    assert shape("h.1", tracer.config, 2) == trace.with_activations(["h.1"])["h.1"].shape
