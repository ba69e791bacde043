"""Invalid names, edits and texts are refused with one clear sentence, before anything is computed."""

import re
from collections.abc import Callable
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fixtures.checkpoints import write_checkpoint
from max_gpt2 import GPT2
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.inspect import Edit, Tracer, ablate_head, mean_ablate, patch, replace, scale, scale_head, steer, zero
from max_gpt2.inspect.probes import resolve
from max_gpt2.model.stages import Stages
from tests.support.activations import texts


def trace(tracer: Tracer, *edits: Edit, length: int = 5, at: Any = ("ln_f",)) -> Any:
    return with_fields(tracer, edits=edits).trace(texts(tracer.config, length), at)[0]


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return the result of a call, or None and the message of its RequestError."""
    try:
        return call(), ""
    except RequestError as error:
        return None, str(error)


def other_model(tracer: Tracer, folder: Path, **changes: Any) -> Tracer:
    """Return a tracer of another checkpoint; the graphs of the tiny one serve it if only its weights are others."""
    checkpoint = load_checkpoint(write_checkpoint(folder, **changes))
    return with_fields(tracer, stages=Stages(checkpoint.config, tracer.stages.graphs, checkpoint.state_dict))


@given(st.text(max_size=20) | st.from_regex(r"(h|blocks)\.(\d|\*|-1)\.[a-z_.*?]{1,12}", fullmatch=True))
@example("\n")
def test_any_name_is_resolved_or_refused_with_a_sentence(name: str) -> None:
    found, message = outcome(lambda: resolve([name], GPT2Config(n_layer=3)))
    assert found or re.fullmatch(r'There is no activation ".*\.', message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h.1.atn.pattern", r"The nearest names are h\.1\.attn\.pattern, "),
        ("blocks.1.hook_mlp_outt", "The nearest names are "),
        ("h.3", "the model has the layers 0 to 2"),
        ("h.-1.mlp", "the model has the layers 0 to 2"),
        ("h.3.*", "the model has the layers 0 to 2"),
        (7, "7 is not the name of an activation"),
    ],
)
def test_unknown_names_are_refused(tracer: Tracer, name: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        resolve([name], tracer.config)
    if isinstance(name, str):
        with pytest.raises(RequestError, match=message):
            trace(tracer, zero(name))


def test_one_name_is_a_list_of_one(tracer: Tracer) -> None:
    assert list(trace(tracer, at="h.*")) == ["h.0", "h.1", "h.2"]
    assert tracer.trace([], ["h.0"]) == []


LAYER_OR_HEAD = [
    (ablate_head(3, 0), "the model has the layers 0 to 2"),
    (ablate_head(-1, 0), "the model has the layers 0 to 2"),
    (scale_head(0, 3, 2.0), "Head 3 does not exist: the model has the heads 0 to 2"),
    (ablate_head(0, -1), "Head -1 does not exist"),
    (zero("h.1", heads=[0]), r"h\.1 has no heads\. Edit attn\.z"),
]


@pytest.mark.parametrize(("edit", "message"), LAYER_OR_HEAD)
def test_layer_and_head_out_of_range(tracer: Tracer, edit: Edit, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        trace(tracer, edit)
    with pytest.raises(RequestError, match=message):
        with_fields(tracer, edits=(edit,)).model()


@given(st.integers(-(10**9), 10**9))
def test_a_position_is_edited_or_refused(tracer: Tracer, position: int) -> None:
    """An edit at a position that the text does not have is never ignored."""
    found, message = outcome(lambda: trace(tracer, zero("h.2", positions=[position]), at=["h.2"])["h.2"])
    if 0 <= position < 5:
        assert (found == 0).all(axis=1).tolist() == [one == position for one in range(5)]
    else:
        assert str(position) in message


def test_position_that_only_one_text_has(tracer: Tracer) -> None:
    edited = with_fields(tracer, edits=(zero("h.2", positions=[6]),))
    short, long = edited.trace(texts(tracer.config, 5, 7), ["h.2"])
    assert short["h.2"].any(axis=1).all()
    assert not long["h.2"][6].any()
    with pytest.raises(RequestError, match=r"changes position 6, but the longest text has 6 tokens"):
        edited.trace(texts(tracer.config, 5, 6), ["h.2"])
    # Generated tokens may reach it.
    assert edited.model()
    with pytest.raises(RequestError, match="Position 67 is not in the context of 67 tokens"):
        with_fields(tracer, edits=(zero("h.2", positions=[67]),)).model()


BAD_VALUES: list[Any] = [
    np.array([np.nan] * 24),
    np.array([0.0] * 23 + [np.inf]),
    np.full(24, 1e39),
    float("nan"),
    "text",
    np.ones(24, complex),
    None,
    [[1.0], [1.0, 2.0]],
    torch.ones(24, requires_grad=True),
]
MAKERS: list[Callable[[Any], Edit]] = [
    lambda value: steer("h.0", value),
    lambda value: replace("h.0", value),
    lambda value: patch("h.0", {"h.0": np.array([value, value])}),
]


@pytest.mark.parametrize("make", MAKERS, ids=["steer", "replace", "patch"])
@pytest.mark.parametrize("value", BAD_VALUES, ids=[str(number) for number in range(len(BAD_VALUES))])
def test_values_that_are_not_finite_numbers_are_refused(make: Callable[[Any], Edit], value: Any) -> None:
    if isinstance(value, torch.Tensor | list):
        make = MAKERS[0]
    with pytest.raises(RequestError, match=r"h\.0 (has NaN or infinite values|is not an array of real numbers)\."):
        make(value)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e39, "2", None, 1j])
def test_factors_that_are_not_finite_numbers_are_refused(factor: Any) -> None:
    for make in (lambda: scale("h.0", factor), lambda: steer("h.0", np.ones(24), factor)):
        with pytest.raises(RequestError, match=r"The factor for h\.0 (has NaN or infinite|is not an array of real)"):
            make()
    with pytest.raises(RequestError, match="times the factor has NaN or infinite values"):
        steer("h.0", np.full(24, 1e30), 1e30)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, bool, torch.float32])
def test_other_types_of_numbers_are_converted(tracer: Tracer, dtype: Any) -> None:
    ones: Any = torch.ones(24) if dtype is torch.float32 else np.ones(24, dtype)
    found = trace(tracer, replace("h.2", ones), at=["h.2"])["h.2"]
    assert found.dtype == np.float32
    assert (found == 1).all()


@pytest.mark.parametrize(
    "edit",
    [
        steer("h.1", np.ones(25)),
        replace("h.1", np.ones((5, 23))),
        mean_ablate("h.1.mlp", np.ones(96)),
        steer("h.1.attn.z", np.ones(24)),
        patch("h.1", {"h.1": np.ones((5, 32))}),
        patch("h.1", {"h.1": np.ones((3, 5, 24))}),
        patch("h.1.attn.z", {"h.1.attn.z": np.ones((4, 5, 8))}, heads=[0]),
        patch("h.1.attn.z", {"h.1.attn.z": np.ones((3, 5, 6))}, positions=[2]),
    ],
)
def test_values_with_the_shape_of_another_model_are_refused(tracer: Tracer, edit: Edit) -> None:
    message = r"The value for h\.1\S* has the shape \[.*\], but this model has (24|3 x 8) values per token\."
    with pytest.raises(RequestError, match=message):
        trace(tracer, edit)
    with pytest.raises(RequestError, match=message):
        with_fields(tracer, edits=(edit,)).model()


@pytest.mark.parametrize(
    "edit",
    [
        replace("h.1", np.ones((4, 24))),
        replace("h.1.attn.pattern", np.ones((3, 6, 6))),
        Edit("h.1", lambda value, _: value[:, :3]),
        Edit("h.1", lambda value, _: np.concatenate([value, value])),
    ],
)
def test_values_for_other_positions_are_refused(tracer: Tracer, edit: Edit) -> None:
    with pytest.raises(RequestError, match=r"The edit cannot replace h\.1\S*, which has the shape \[.*5.*\]: "):
        trace(tracer, edit)


@pytest.mark.parametrize("value", [None, "text", 1j])
def test_function_that_returns_no_numbers_is_refused(tracer: Tracer, value: Any) -> None:
    with pytest.raises(RequestError, match="the new value is not an array of real numbers"):
        trace(tracer, Edit("h.1", lambda *_: value))


@pytest.mark.parametrize("wrong", [3, [1.5], "ab", [None]])
def test_heads_and_positions_are_lists_of_integers(wrong: Any) -> None:
    for make in (
        lambda: zero("h.1.attn.z", heads=wrong),
        lambda: zero("h.1", positions=wrong),
        lambda: patch("h.1", {"h.1": np.ones((5, 24))}, positions=wrong),
        lambda: Edit("h.1", lambda value, _: value, positions=wrong),
    ):
        with pytest.raises(RequestError, match="is not a list of integers"):
            make()


def test_source_of_another_length_needs_positions(tracer: Tracer) -> None:
    source = trace(tracer, length=7, at=["h.1"])
    with pytest.raises(RequestError, match=r"The source of the patch of h\.1 has 7 tokens, but the text has 5"):
        trace(tracer, patch("h.1", source))
    found = trace(tracer, patch("h.1", source, positions=[1, 4]), at=["h.1"])
    np.testing.assert_array_equal(found["h.1"][[1, 4]], source["h.1"][[1, 4]])
    with pytest.raises(RequestError, match=r"changes position 6, but the text has 5 tokens"):
        trace(tracer, patch("h.1", source, positions=[1, 6]))
    with pytest.raises(RequestError, match=r'"h\.1" is not in the source of the patch'):
        patch("h.1", {})


def test_source_of_another_model_is_refused(tracer: Tracer, tmp_path: Path) -> None:
    same = other_model(tracer, tmp_path / "same")
    found = trace(tracer, patch("h.1", trace(same, at=["h.1"])), at=["h.2"])
    np.testing.assert_array_equal(found["h.2"], trace(tracer, at=["h.2"])["h.2"])
    scaled = trace(other_model(tracer, tmp_path / "scale", scale_attn_weights=False), at=["h.1"])
    name = "transformer.h.0.mlp.c_proj.bias"
    weights = {**tracer.stages.weights, name: tracer.stages.float32(name) + np.float32(0.5)}
    tuned = trace(with_fields(tracer, stages=with_fields(tracer.stages, weights=weights)), at=["h.1"])
    for source in (scaled, tuned):
        edited = with_fields(tracer, edits=(patch("h.1", source),))
        for call in (edited.model, lambda edited=edited: edited.trace([[1] * 5], ["ln_f"])):
            with pytest.raises(RequestError, match=r"The source of the patch of h\.1 is a trace of another model"):
                call()
        found = trace(tracer, patch("h.1", dict(source)), at=["h.1"])
        np.testing.assert_array_equal(found["h.1"], source["h.1"])


def test_text_of_several_is_named(tracer: Tracer) -> None:
    long = [1] * (tracer.config.n_positions + 1)
    with pytest.raises(RequestError, match=r"Text 2 of 3 has 68 tokens\. A trace needs 1 to 67, the context"):
        tracer.trace([[1], long, [1]], ["ln_f"])
    with pytest.raises(RequestError, match="The text has 68 tokens"):
        tracer.trace([long], ["ln_f"])


def test_memory_of_many_texts_is_estimated(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_gpt2.inspect.probes.memory", lambda: (10**9, 100_000))
    trace(tracer)
    with pytest.raises(RequestError, match=r"needs 0\.0 GB .* fewer activations \(ln_f is .*\) or fewer texts at once"):
        tracer.trace([[1] * 5] * 50, ["ln_f"])
    with pytest.raises(RequestError, match=r"Ask for fewer tokens\."):
        tracer.trace([[1] * 60], [])


def test_edits_that_are_not_a_list_of_edits_are_refused(tiny_original: Path, tiny_model: object) -> None:
    del tiny_model  # compiled once for all tests
    gpt2 = GPT2.from_pretrained(tiny_original)
    wrong: Any = zero("h.1")
    names: Any = ["h.1"]
    for call in (gpt2.trace, gpt2.score, gpt2.generate, gpt2.stream, gpt2.beam_search):
        with pytest.raises(RequestError, match=r"The edits are not a list\. Give edits=\[\.\.\.\]\."):
            call("The quick", edits=wrong)
        with pytest.raises(RequestError, match=r"'h\.1' is not an edit\. Use the functions of max_gpt2\.inspect"):
            call("The quick", edits=names)
