"""Edits equal the same edits made with hooks in PyTorch."""

from collections.abc import Callable
from dataclasses import replace as with_fields
from typing import Any

import numpy as np
import pytest
import torch

from max_gpt2.errors import RequestError
from max_gpt2.inspect import (
    Edit,
    Tracer,
    ablate_head,
    attribution,
    mean_ablate,
    patch,
    probe_names,
    replace,
    scale,
    scale_head,
    steer,
    zero,
)
from max_gpt2.inspect.probes import READ_ONLY, shape, split_name
from max_gpt2.verify.compare import compare
from tests.support.activations import texts, torch_activations

LENGTH = 13


def edited(tracer: Tracer, *edits: Edit) -> Tracer:
    return with_fields(tracer, edits=edits)


def check(tracer: Tracer, torch_model: Any, edits: list[Edit], change: Callable[[str, Any], Any]) -> None:
    """Compare the logits and the residual streams under edits with those of PyTorch under hooks."""
    (ids,) = texts(tracer.config, LENGTH)
    names = ["logits", "h.*", "h.*.attn.z", "h.*.mlp.post"]
    (trace,) = edited(tracer, *edits).trace([ids], names)
    (plain,) = tracer.trace([ids], ["logits"])
    expected = torch_activations(torch_model, ids, change)
    for name, value in trace.items():
        assert compare(value, expected[name]).equal, name
    assert not compare(trace["logits"], plain["logits"]).equal


def at(place: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """Return a change of one activation in PyTorch."""
    return lambda name, value: change(value.clone()) if name == place else value


def test_ablated_and_scaled_heads(tracer: Tracer, torch_model: Any) -> None:
    def ablate(z: Any) -> Any:
        z[1] = 0
        return z

    check(tracer, torch_model, [ablate_head(2, 1)], at("h.2.attn.z", ablate))

    def halve(z: Any) -> Any:
        z[0] *= -0.5
        return z

    check(tracer, torch_model, [scale_head(0, 0, -0.5)], at("h.0.attn.z", halve))


EDITABLE = ["embeddings", *(f"h.1.{part}" for part in ("resid_pre", "ln_1", "attn.q", "attn.k", "attn.v", "attn.z"))]
EDITABLE += [*(f"h.1.{part}" for part in ("attn", "resid_mid", "ln_2", "mlp.post", "mlp")), "h.1", "ln_f"]


@pytest.mark.parametrize("name", EDITABLE)
def test_every_activation_can_be_scaled_at_some_positions(tracer: Tracer, torch_model: Any, name: str) -> None:
    def change(value: Any) -> Any:
        value[..., [2, 12], :] *= 3
        return value

    check(tracer, torch_model, [scale(name, 3, positions=[2, 12])], at(name, change))


def test_all_editable_activations_are_tested(tracer: Tracer) -> None:
    parts = {split_name(name)[1] for name in probe_names(tracer.config)}
    assert parts - READ_ONLY.keys() - {"attn.pattern", "logits"} == {split_name(name)[1] for name in EDITABLE}


def test_zero_mean_steer_and_replace(tracer: Tracer, torch_model: Any) -> None:
    width = tracer.config.n_embd
    vector = np.linspace(-1, 1, width, dtype=np.float32)
    check(tracer, torch_model, [zero("h.1.mlp")], at("h.1.mlp", torch.zeros_like))
    mean = at("h.1.attn", lambda value: value.mean(dim=0, keepdim=True).expand_as(value))
    check(tracer, torch_model, [mean_ablate("h.1.attn")], mean)
    steered = at("h.0", lambda value: value + 2.5 * torch.from_numpy(vector))
    check(tracer, torch_model, [steer("h.0", vector, 2.5)], steered)
    fixed = at("h.2.ln_2", lambda value: torch.from_numpy(vector).expand_as(value))
    check(tracer, torch_model, [mean_ablate("h.2.ln_2", vector)], fixed)

    def put(value: Any) -> Any:
        value[4] = torch.from_numpy(vector)
        return value

    check(tracer, torch_model, [replace("h.0.resid_mid", vector, positions=[4])], at("h.0.resid_mid", put))


def test_pattern_is_replaced(tracer: Tracer, torch_model: Any) -> None:
    uniform = np.tril(np.ones((LENGTH, LENGTH), dtype=np.float32))
    uniform /= uniform.sum(axis=1, keepdims=True)
    kept: dict[str, Any] = {}

    def change(name: str, value: Any) -> Any:
        kept[name] = value
        if name == "h.1.attn.z":
            value = value.clone()
            value[1] = torch.from_numpy(uniform) @ kept["h.1.attn.v"][1]
        return value

    check(tracer, torch_model, [replace("h.1.attn.pattern", uniform, heads=[1])], change)


def test_replaced_pattern_is_that_of_its_own_text_in_a_batch(tracer: Tracer) -> None:
    several = texts(tracer.config, LENGTH, 5, 9)
    first = edited(tracer, zero("h.1.attn.pattern", heads=[0], positions=[3]), scale("h.0.attn.pattern", 0.5))
    for ids, trace in zip(several, first.trace(several, ["logits", "h.*.attn.z"]), strict=True):
        (alone,) = first.trace([ids], ["logits", "h.*.attn.z"])
        for name, value in alone.items():
            np.testing.assert_array_equal(trace[name], value, err_msg=name)


def test_patch_from_another_text(tracer: Tracer, torch_model: Any) -> None:
    _, other = texts(tracer.config, LENGTH, 9)
    (source,) = tracer.trace([other], ["h.1", "h.0.attn.z"])

    def stream(value: Any) -> Any:
        value[[3, 8]] = torch.from_numpy(source["h.1"][[3, 8]])
        return value

    check(tracer, torch_model, [patch("h.1", source, positions=[3, 8])], at("h.1", stream))

    def head(value: Any) -> Any:
        value[1, :9] = torch.from_numpy(source["h.0.attn.z"][1])
        return value

    check(tracer, torch_model, [patch("h.0.attn.z", source, heads=[1])], at("h.0.attn.z", head))
    with pytest.raises(RequestError, match="Position 9 is not in the source of the patch: it has 9 tokens"):
        patch("h.1", source, positions=[9])
    with pytest.raises(RequestError, match=r'"h\.0" was not traced'):
        patch("h.0", source)


def test_edits_of_one_activation_compose_in_order(tracer: Tracer, torch_model: Any) -> None:
    vector = np.ones(tracer.config.n_embd, dtype=np.float32)
    both = [steer("h.0", vector, 2), scale("h.0", 3)]
    check(tracer, torch_model, both, at("h.0", lambda value: (value + 2) * 3))
    check(tracer, torch_model, both[::-1], at("h.0", lambda value: value * 3 + 2))


def test_no_effective_edit_leaves_the_logits_bitwise(tracer: Tracer) -> None:
    (ids,) = texts(tracer.config, LENGTH)
    (plain,) = tracer.trace([ids], ["**"])
    same = [scale(name, 1) for name in EDITABLE] + [patch("h.1", plain), zero("h.0", positions=[])]
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


def test_values_of_the_wrong_shape_are_refused(tracer: Tracer) -> None:
    wrong = replace("h.1", np.zeros(tracer.config.n_embd + 1, dtype=np.float32))
    with pytest.raises(RequestError, match=r"The edit cannot replace h\.1, which has the shape \[2, 24\]"):
        edited(tracer, wrong).trace([[1, 2]], ["logits"])


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
