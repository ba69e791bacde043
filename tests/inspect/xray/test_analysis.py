"""The answers of the page equal numbers computed from PyTorch's activations."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from max_gpt2.errors import RequestError
from max_gpt2.generation import SamplingParams
from max_gpt2.inspect import Tracer, ablate_head, zero
from max_gpt2.inspect.xray import Analysis, State
from max_gpt2.inspect.xray.export import _answers
from tests.support.activations import texts, torch_activations

LENGTH = 21
ABLATED = ((0, 2), (1, None), (2, 0))
VERDICT = {"passed": None, "text": "Not verified yet."}


def decode(value: dict[str, Any]) -> np.ndarray:
    """Return an array of an answer."""
    return np.frombuffer(base64.b64decode(value["data"]), value["dtype"]).reshape(value["shape"])


@pytest.fixture(scope="module")
def analysis(tracer: Tracer) -> Analysis:
    return Analysis("tiny", tracer, VERDICT)


@pytest.fixture(scope="module")
def ids(tracer: Tracer) -> list[int]:
    return texts(tracer.config, LENGTH)[0]


def ablate(name: str, value: Any) -> Any:
    """Make the ablations of ABLATED in PyTorch."""
    value = value.clone()
    if name in ("h.0.attn.z", "h.2.attn.z"):
        value[2 if name.startswith("h.0") else 0] = 0
    return torch.zeros_like(value) if name == "h.1.mlp" else value


@pytest.fixture(scope="module")
def expected(torch_model: Any, ids: list[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """PyTorch's activations without ablations and with them."""
    return torch_activations(torch_model, ids), torch_activations(torch_model, ids, ablate)


def distributions(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.tensor(logits, dtype=torch.float64), dim=-1).numpy() / np.log(2)


def check_view(view: dict[str, Any], prefix: str, logits: np.ndarray, ids: list[int]) -> None:
    """Compare the measures of a view with those of PyTorch's logits."""
    bits = distributions(logits)
    own = bits[np.arange(LENGTH - 1), ids[1:]]
    surprisal = decode(view[f"{prefix}surprisal"])
    assert np.isnan(surprisal[0])
    np.testing.assert_allclose(surprisal[1:], -own, atol=1e-4)
    np.testing.assert_array_equal(
        decode(view[f"{prefix}rank"]), [0, *(1 + (bits[:-1] > own[:, None]).sum(axis=1)).tolist()]
    )
    np.testing.assert_allclose(decode(view[f"{prefix}entropy"]), -(2**bits * bits).sum(axis=1), atol=1e-4)
    top = np.argsort(-bits, axis=1)[:, :5]
    np.testing.assert_array_equal(decode(view[f"{prefix}top_ids"]), top)
    probabilities = 2 ** np.take_along_axis(bits, top, axis=1)
    np.testing.assert_allclose(decode(view[f"{prefix}top_probabilities"]), probabilities, atol=1e-5)


def test_view_with_and_without_ablations(analysis: Analysis, ids: list[int], expected: Any) -> None:
    plain, ablated = analysis.view(State(tuple(ids))), analysis.view(State(tuple(ids), ABLATED))
    check_view(plain, "", expected[0]["logits"], ids)
    check_view(ablated, "base_", expected[0]["logits"], ids)
    check_view(ablated, "", expected[1]["logits"], ids)
    assert plain["next_id"] == expected[0]["logits"][-1].argmax()
    assert ablated["next_id"] == expected[1]["logits"][-1].argmax()
    assert [one["id"] for one in plain["tokens"]] == ids
    assert not any(name.startswith("base_") for name in plain)


def test_measures_are_the_same_in_chunks(analysis: Analysis, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = analysis.view(State(tuple(ids)))
    monkeypatch.setattr("max_gpt2.inspect.xray.predictions._CHUNK", 4)
    for name, value in analysis.view(State(tuple(ids))).items():
        if isinstance(value, dict) and "shape" in value:
            np.testing.assert_allclose(decode(value), decode(whole[name]), rtol=1e-6)


def test_next_lists_the_most_likely_tokens(analysis: Analysis, ids: list[int], expected: Any) -> None:
    answer = analysis.next(State(tuple(ids), ABLATED), 7)
    for prefix, activations in (("base_", expected[0]), ("", expected[1])):
        np.testing.assert_allclose(decode(answer[f"{prefix}logits"]), activations["logits"][7], rtol=1e-3, atol=1e-4)
    order = np.argsort(-decode(answer["logits"]), kind="stable")[:200]
    np.testing.assert_array_equal(decode(answer["top"])[:200], order)
    assert answer["texts"].keys() == {str(one) for one in decode(answer["top"])}
    base = set(np.argsort(-decode(answer["base_logits"]))[:200].tolist())
    assert base <= set(decode(answer["top"]).tolist())


def test_sample_draws_from_the_restricted_distribution(analysis: Analysis, ids: list[int], expected: Any) -> None:
    state, logits = State(tuple(ids)), expected[0]["logits"][-1].astype(np.float64)
    assert analysis.sample(state, SamplingParams(temperature=0)) == {"id": int(logits.argmax()), "probability": 1.0}
    best = np.argsort(-logits)[:3]
    weights = np.exp(logits[best] / 0.7 - (logits[best] / 0.7).max())
    probabilities = dict(zip(best.tolist(), weights / weights.sum(), strict=True))
    drawn = [analysis.sample(state, SamplingParams(temperature=0.7, top_k=3, seed=seed)) for seed in range(40)]
    assert {one["id"] for one in drawn} == set(probabilities)
    for one in drawn:
        assert one["probability"] == pytest.approx(probabilities[one["id"]], abs=1e-4)


def test_lens_attention_and_norms(analysis: Analysis, ids: list[int], expected: Any) -> None:
    state = State(tuple(ids), ABLATED)
    names = ["embeddings", "h.0", "h.1", "h.2"]
    for prefix, activations in (("base_", expected[0]), ("", expected[1])):
        norms = [np.linalg.norm(activations[name], axis=1) for name in names]
        np.testing.assert_allclose(decode(analysis.norms(state)[f"{prefix}norms"]), norms, rtol=1e-4)
    found = analysis.lens(state, range(5, 9))
    assert decode(found["probabilities"]).shape == (4, 4)
    np.testing.assert_array_equal(decode(found["targets"]), ids[6:10])
    np.testing.assert_array_equal(decode(found["ids"])[-1], expected[1]["logits"][5:9].argmax(axis=1))
    for layer in range(3):
        pattern = expected[1][f"h.{layer}.attn.pattern"]
        for head in range(3):
            np.testing.assert_allclose(decode(analysis.head(state, layer, head)["pattern"]), pattern[head], atol=1e-4)
        exact = decode(analysis.attention(state, layer, 64)["thumbnails"])
        np.testing.assert_allclose(exact / 255, pattern, atol=0.6 / 255)
        small = decode(analysis.attention(state, layer, 4)["thumbnails"])  # squares of 5, 5, 5 and 6 cells
        edges = [0, 5, 10, 15, 21]
        for row in range(4):
            for column in range(4):
                cells = pattern[:, edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
                np.testing.assert_allclose(small[:, row, column] / 255, cells.max(axis=(1, 2)), atol=0.6 / 255)


def test_attribution_is_that_of_the_trace(analysis: Analysis, tracer: Tracer, ids: list[int]) -> None:
    answer = analysis.attribution(State(tuple(ids), ABLATED), 5, 9, 11)
    changed = replace(tracer, edits=(ablate_head(0, 2), zero("h.1.mlp"), ablate_head(2, 0)))
    for prefix, one in (("base_", tracer), ("", changed)):
        (trace,) = one.trace([ids], ["logits"])
        expected = trace.attribution(5, 9, 11)
        for name in ("heads", "mlps", "biases"):
            np.testing.assert_allclose(decode(answer[f"{prefix}{name}"]), getattr(expected, name), rtol=1e-5, atol=1e-6)
        assert answer[f"{prefix}total"] == pytest.approx(expected.total)
    assert decode(answer["heads"])[0, 2] == 0 == decode(answer["mlps"])[1]
    assert answer["texts"].keys() == {"5", "9"}


def test_answers_of_a_file_have_the_keys_of_the_page(analysis: Analysis, ids: list[int]) -> None:
    answers = dict(_answers(analysis, State(tuple(ids))))
    view = analysis.view(State(tuple(ids)))
    targets = [*ids[1:], view["next_id"]]
    expected = {"view", "lens", "norms", *(f"next:{position}" for position in range(LENGTH))}
    expected |= {f"attribution:{position}:{token}" for position, token in enumerate(targets)}
    expected |= {f"attention:{layer}" for layer in range(3)}
    expected |= {f"head:{layer}:{head}" for layer in range(3) for head in range(3)}
    assert answers.keys() == expected
    assert answers["view"] == view


def test_large_answers_are_left_out_of_a_file(
    analysis: Analysis, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_gpt2.inspect.xray.export._MOST_BYTES", 4 * 311 * LENGTH - 1)
    answers = dict(_answers(analysis, State(tuple(ids))))
    assert [one for one in answers if one.startswith("next")] == [f"next:{LENGTH - 1}"]
    assert sum(one.startswith("head") for one in answers) == 9
    monkeypatch.setattr("max_gpt2.inspect.xray.export._MOST_BYTES", 4 * 9 * LENGTH**2 - 1)
    answers = dict(_answers(analysis, State(tuple(ids))))
    assert not any(one.startswith("head") for one in answers)


def test_tokens_that_are_not_whole_characters_show_their_bytes(analysis: Analysis) -> None:
    tokenizer = analysis.tracer.tokenizer
    ids = tokenizer.encode("é\u2013\n")
    texts_ = [one["text"] for one in analysis.view(State(tuple(ids)))["tokens"]]
    assert texts_ == ["⟨c3⟩", "⟨a9⟩", "⟨e2⟩", "⟨80⟩", "⟨93⟩", "\n"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids": "1"}, "ids is not a list of token ids"),
        ({"ids": [True]}, "ids is not a list of token ids"),
        ({"ids": [1], "ablated": [3]}, "ablated is not a list"),
        ({"ids": [1], "ablated": [{"layer": "0", "head": 1}]}, "layer is not an integer"),
        ({"ids": []}, "The text has 0 tokens"),
        ({"ids": [1] * 68}, "The text has 68 tokens. A trace needs 1 to 67"),
        ({"ids": [311]}, r"The id 311 is not in 0 \.\. 310"),
        ({"ids": [1], "ablated": [{"layer": 3, "head": None}]}, "the layers 0 to 2"),
        ({"ids": [1], "ablated": [{"layer": 0, "head": 3}]}, "Head 3 does not exist"),
    ],
)
def test_invalid_states_are_refused(analysis: Analysis, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        analysis.view(State.parse(fields))


def test_equal_states_are_equal() -> None:
    first = State.parse({"ids": [1], "ablated": [{"layer": 1, "head": 0}, {"layer": 0, "head": None}]})
    second = State.parse({"ids": [1], "ablated": [{"layer": 0, "head": None}, *[{"layer": 1, "head": 0}] * 2]})
    assert first == second == State((1,), ((0, None), (1, 0)))


def test_old_traces_are_dropped(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_gpt2.inspect.xray.analysis._KEPT_BYTES", 0)
    analysis, states = Analysis("tiny", tracer, VERDICT), [State((1, number)) for number in range(4)]
    for state in states:
        analysis.view(state)
    assert list(analysis._traces) == states[2:]


def test_trace_is_computed_once(analysis: Analysis, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    analysis.view(State(tuple(ids)))
    monkeypatch.setattr(Tracer, "trace", None)
    analysis.view(State(tuple(ids)))
    analysis.head(State(tuple(ids)), 1, 0)
