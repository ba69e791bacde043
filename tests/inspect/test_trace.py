"""Activations equal those of transformers' model, read with hooks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from max_gpt2.errors import RequestError
from max_gpt2.inspect import Edit, Tracer, ablate_head, attribution, logit_lens, probe_names, scale, steer
from max_gpt2.inspect.probes import resolve, shape
from max_gpt2.model import CompiledModel
from max_gpt2.model.stages import StagedModel
from tests.support.activations import texts, torch_activations


def test_activations_have_their_shapes(tracer: Tracer) -> None:
    # test_edits compares them with PyTorch.
    (trace,) = tracer.trace(texts(tracer.config, 19), ["**"])
    assert list(trace) == probe_names(tracer.config)
    assert all(trace[name].shape == shape(name, tracer.config, 19) for name in trace)


def test_logits_are_bitwise_those_of_the_engine(tracer: Tracer, tiny_model: CompiledModel) -> None:
    (ids,) = texts(tracer.config, tracer.config.n_positions)
    (trace,) = tracer.trace([ids], ["**"])
    np.testing.assert_array_equal(trace["logits"], tiny_model.logits(np.array([ids]))[0])


def test_text_has_the_same_activations_in_a_batch(tracer: Tracer) -> None:
    several = texts(tracer.config, 7, 1, 30, 12)
    for ids, trace in zip(several, tracer.trace(several, ["**"]), strict=True):
        (alone,) = tracer.trace([ids], ["**"])
        for name, value in alone.items():
            np.testing.assert_array_equal(trace[name], value, err_msg=name)


def test_patterns_choose_names_and_aliases_name_them(tracer: Tracer) -> None:
    config = tracer.config
    layers = range(config.n_layer)
    assert resolve(["h.*"], config) == [f"h.{layer}" for layer in layers]
    assert resolve(["logits", "h.1.attn.?"], config) == [*(f"h.1.attn.{one}" for one in "qkvz"), "logits"]
    assert resolve(["**"], config) == probe_names(config)
    assert resolve(["h.1.**"], config) == [name for name in probe_names(config) if name.startswith("h.1.")]
    assert resolve(["blocks.1.attn.hook_pattern", "blocks.*.hook_resid_post"], config) == resolve(
        ["h.1.attn.pattern", "h.*"], config
    )
    (trace,) = tracer.trace(texts(config, 4), ["h.1.resid_post"])
    assert list(trace) == ["h.1"]
    np.testing.assert_array_equal(trace["blocks.1.hook_resid_post"], trace["h.1"])


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("h.1.atn.pattern", 'no activation "h.1.atn.pattern". The nearest names are h.1.attn.pattern'),
        ("h.9", "the model has the layers 0 to 2"),
        ("blocks.9.hook_mlp_out", "the model has the layers 0 to 2"),
    ],
)
def test_unknown_names_are_refused(tracer: Tracer, at: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tracer.trace([[1]], [at])


def test_bad_texts_and_missing_activations_are_refused(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tracer.config
    for ids, message in (
        ([], "0 tokens"),
        ([0] * (config.n_positions + 1), f"1 to {config.n_positions}"),
        ([config.vocab_size], f"The id {config.vocab_size} is not in"),
        ([-1], "The id -1 is not in"),
    ):
        with pytest.raises(RequestError, match=message):
            tracer.trace([ids], ["h.*"])
    (trace,) = tracer.trace([[1, 2]], ["h.0"])
    with pytest.raises(RequestError, match=r'"h.1" was not traced. Add it: at='):
        trace["h.1"]
    with pytest.raises(RequestError, match=r'no activation "h\.x"'):
        trace["h.x"]
    monkeypatch.setattr("max_gpt2.inspect.probes.memory", lambda: (10**9, 10_000))
    with pytest.raises(RequestError, match=r"fewer activations \(logits is the largest\)\."):
        tracer.trace([[1] * 40], ["h.0", "logits"])


def test_logit_lens_applies_the_head_to_each_layer(tracer: Tracer, torch_model: Any) -> None:
    (ids,) = texts(tracer.config, 11)
    (trace,) = tracer.trace([ids], ["logits"])
    lens = logit_lens(trace)
    expected = torch_activations(torch_model, ids)
    targets = np.array([*ids[1:], expected["logits"][-1].argmax()])
    np.testing.assert_array_equal(lens.targets, targets)
    for row, name in enumerate(["embeddings", *(f"h.{layer}" for layer in range(tracer.config.n_layer))]):
        with torch.no_grad():
            logits = torch_model.lm_head(torch_model.transformer.ln_f(torch.from_numpy(expected[name]))).double()
        probabilities = logits.softmax(dim=-1).numpy()
        np.testing.assert_array_equal(lens.tokens[row], probabilities.argmax(axis=1))
        np.testing.assert_allclose(lens.probabilities[row], probabilities.max(axis=1), rtol=1e-4)
        own = probabilities[np.arange(11), targets]
        np.testing.assert_allclose(lens.target_probabilities[row], own, rtol=1e-4)
        np.testing.assert_array_equal(lens.ranks[row], 1 + (probabilities > own[:, None]).sum(axis=1))


@pytest.mark.parametrize("position", [-1, 3])
def test_attribution_sums_to_the_logit(tracer: Tracer, position: int) -> None:
    (ids,) = texts(tracer.config, 9)
    (trace,) = tracer.trace([ids], ["logits"])
    logits = trace["logits"][position]
    for token, minus, expected in ((5, None, logits[5]), (5, 8, logits[5] - logits[8])):
        found = attribution(trace, token, minus, position)
        assert found.heads.shape == (tracer.config.n_layer, tracer.config.n_head)
        parts = [found.embeddings, found.heads.sum(), found.mlps.sum(), found.biases.sum(), found.ln_f]
        assert sum(map(float, parts)) == pytest.approx(float(expected), abs=1e-4)
        assert found.total == pytest.approx(float(expected))
    with pytest.raises(RequestError, match="Position 9 is not in the text"):
        attribution(trace, 5, position=9)
    with pytest.raises(RequestError, match="The id 9999 is not in"):
        attribution(trace, 9999)


@pytest.mark.parametrize(
    "edits", [(), (ablate_head(1, 0), steer("h.0", np.ones(24, np.float32)), scale("h.1.resid_pre", 2))]
)
def test_added_activations_are_those_of_one_trace(tracer: Tracer, edits: tuple[Edit, ...]) -> None:
    changed = replace(tracer, edits=edits)
    (ids,) = texts(tracer.config, 11)
    (whole,) = changed.trace([ids], ["**"])
    (streams,) = changed.trace([ids], ["embeddings", "h.*"])
    for at in (["h.1.attn.pattern", "h.2.attn.*"], ["h.1.**", "logits"], ["h.0.mlp"], ["**"]):
        added = streams.with_activations(at)
        assert len(added) > len(streams)
        for name, value in added.items():
            np.testing.assert_array_equal(value, whole[name], err_msg=name)


def test_block_with_a_known_input_runs_alone(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    (ids,) = texts(tracer.config, 11)
    (streams,) = tracer.trace([ids], ["embeddings", "h.0", "h.1"])
    monkeypatch.setattr(StagedModel, "forward", None)  # the whole model
    assert streams.with_activations(["h.1.attn.pattern"])["h.1.attn.pattern"].shape == (3, 11, 11)


def test_lens_of_some_positions_is_that_of_all(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    (ids,) = texts(tracer.config, 11)
    (trace,) = tracer.trace([ids], ["logits"])
    whole = trace.logit_lens()
    monkeypatch.setattr("max_gpt2.inspect.lens._CHUNK", 3)
    for positions in ([10, 2, 3, 4, 7, 0], [4], list(range(11))):
        part = trace.logit_lens(positions)
        for name, value in vars(whole).items():
            np.testing.assert_array_equal(getattr(part, name), value[..., positions], err_msg=name)
    with pytest.raises(RequestError, match="Position 11 is not in the text, which has 11 tokens"):
        trace.logit_lens([0, 11])


def test_attribution_takes_the_text_of_a_token(tracer: Tracer) -> None:
    (ids,) = texts(tracer.config, 11)
    (trace,) = tracer.trace([ids], ["logits"])
    a, b = (tracer.tokenizer.encode(one)[0] for one in "ab")
    assert trace.attribution("a", minus="b", position=4).total == attribution(trace, a, b, 4).total
    with pytest.raises(RequestError, match=r'"ab cd ef" is \d+ tokens'):
        trace.attribution("ab cd ef")
