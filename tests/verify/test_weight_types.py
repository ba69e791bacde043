"""Weights of several types, compared on a text; the expected values are those of transformers."""

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch.nn import functional as F

from fixtures.checkpoints import edit_config, random_ids, reference_model, write_checkpoint
from fixtures.formats import conv1d_weights
from max_gpt2.checkpoint import LoadOptions
from max_gpt2.checkpoint.gguf_convert import convert_to_gguf
from max_gpt2.errors import CheckpointError, RequestError
from max_gpt2.generation import open_model
from max_gpt2.verify.weight_types import (
    DEFAULT_TYPES,
    Candidate,
    Comparison,
    WeightsReport,
    candidates,
    compare_weights,
    default_types,
)

#: Windows of 67, 67 and 16 tokens.
IDS = random_ids(1, 150)[0].tolist()
TYPES = ("bfloat16", "q8_0", "q4_0")


def in_type(type_: str) -> tuple[Any, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return transformers' model with its matrices rounded to a type, and each matrix before and after."""
    model = reference_model()
    conv1d, changed = conv1d_weights(model), {}
    for name, parameter in model.state_dict().items():
        if parameter.ndim == 2 and "wpe" not in name and name != "lm_head.weight":
            before = parameter.numpy().copy()
            rows = np.ascontiguousarray(before.T) if name in conv1d else before
            kind = {"bfloat16": "BF16", "float16": "F16"}.get(type_, type_.upper())
            kind = "F16" if type_.startswith("q") and rows.shape[1] % 32 else kind
            quantised = gguf.quants.quantize(rows, GGMLQuantizationType[kind])
            values = gguf.quants.dequantize(quantised, GGMLQuantizationType[kind])
            after = values.T if name in conv1d else values
            parameter.copy_(torch.from_numpy(after.copy()))
            changed[name] = (before, after)
    return model, changed


def outputs(model: Any, window: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the logits of a window and the outputs of all layers."""
    states: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(
            lambda _module, _inputs, output: states.append(output[0] if isinstance(output, tuple) else output)
        )
        for block in model.transformer.h
    ]
    with torch.no_grad():
        logits = model(torch.tensor([window])).logits[0]
    for hook in hooks:
        hook.remove()
    return logits.double(), states


def norm(parts: list[Any]) -> float:
    return float(np.sqrt(sum(float((np.asarray(part, np.float64) ** 2).sum()) for part in parts)))


@pytest.fixture(scope="module")
def comparison(tiny_original: Path) -> Comparison:
    source = open_model(tiny_original)
    return compare_weights(Candidate("tiny", source), candidates("tiny", source, TYPES), IDS)


def report(comparison: Comparison, weights: str) -> WeightsReport:
    return next(one for one in comparison.reports if one.weights == weights)


@pytest.mark.parametrize("weights", ["auto", *TYPES])
def test_measures_match_transformers(comparison: Comparison, weights: str) -> None:
    found = report(comparison, weights)
    (reference, _), (model, changed) = (reference_model(), {}), in_type("f32" if weights == "auto" else weights)
    divergences, nll, agreeing = [], [], []
    before: list[list[torch.Tensor]] = [[], [], []]
    after: list[list[torch.Tensor]] = [[], [], []]
    for window in (IDS[:67], IDS[67:134], IDS[134:]):
        expected, expected_states = outputs(reference, window)
        logits, states = outputs(model, window)
        logs = logits[:-1].log_softmax(1), expected[:-1].log_softmax(1)
        divergences.append(F.kl_div(*logs, reduction="none", log_target=True).sum(1))
        nll.append(F.cross_entropy(logits[:-1], torch.tensor(window[1:]), reduction="none"))
        agreeing.append(logits[:-1].argmax(1) == expected[:-1].argmax(1))
        for layer in range(3):
            before[layer].append(expected_states[layer])
            after[layer].append(states[layer] - expected_states[layer])
    every = torch.cat(divergences)
    assert comparison.tokens == len(every) == 147
    assert found.kl_divergence == pytest.approx(every.mean().item(), rel=2e-3, abs=1e-9)
    assert found.max_kl_divergence == pytest.approx(every.max().item(), rel=2e-3, abs=1e-9)
    assert found.argmax_agreement == torch.cat(agreeing).double().mean().item()
    assert found.perplexity == pytest.approx(torch.cat(nll).mean().exp().item(), rel=1e-5)
    assert found.perplexity_difference == found.perplexity - comparison.reports[0].perplexity
    for layer, errors in enumerate(found.layers):
        expected_error = norm(after[layer]) / norm(before[layer])
        assert errors.hidden_states == pytest.approx(expected_error, rel=1e-3, abs=1e-6)
        pairs = [pair for name, pair in changed.items() if f".h.{layer}." in name]
        weight_error = norm([two - one for one, two in pairs]) / norm([one for one, _ in pairs])
        assert errors.weights == pytest.approx(weight_error, rel=1e-4)
    assert found.hidden_state_error == found.layers[-1].hidden_states
    total = norm([two - one for one, two in changed.values()]) / norm([one for one, _ in changed.values()])
    assert found.weight_error == pytest.approx(total, rel=1e-4)


def test_types_and_sizes_are_reported(comparison: Comparison) -> None:
    vectors = 4 * (30792 - 24 * (311 + 3 * (72 + 24 + 96 + 96)))  # biases, layer norms and wpe, in float32
    table, square = 311 * 24, 24 * (72 + 24 + 96)
    assert report(comparison, "auto").types == {"F32": 13}
    assert report(comparison, "auto").bytes == 4 * 30792
    assert report(comparison, "bfloat16").types == {"BF16": 13}
    assert report(comparison, "bfloat16").bytes == vectors + 2 * (30792 - vectors // 4)
    assert report(comparison, "q8_0").types == {"F16": 10, "Q8_0": 3}  # rows of 24, and of 96
    blocks = 3 * 96 // 32 * 34 * 32  # columns are padded to 32
    assert report(comparison, "q8_0").bytes == vectors + 2 * (table + 3 * square) + blocks
    assert comparison.windows == 3
    for one in comparison.reports:
        assert one.tokens_per_s is not None
        assert one.tokens_per_s > 0


def test_reference_has_no_difference(comparison: Comparison) -> None:
    first = comparison.reports[0]
    assert (first.name, first.weights) == ("tiny", "auto")
    assert (first.kl_divergence, first.max_kl_divergence, first.argmax_agreement) == (0, 0, 1)
    assert (first.perplexity_difference, first.weight_error, first.hidden_state_error) == (0, 0, 0)


def test_gguf_file_has_the_measures_of_its_type(tiny: Path, comparison: Comparison, tmp_path: Path) -> None:
    file = convert_to_gguf(tiny, tmp_path / "q8_0.gguf", "q8_0").file
    other = Candidate(str(file), open_model(file))
    (_, found) = compare_weights(Candidate("tiny", open_model(tiny)), [other], IDS).reports
    expected = report(comparison, "q8_0")
    for name in ("types", "bytes", "kl_divergence", "perplexity", "layers"):
        assert getattr(found, name) == getattr(expected, name), name


def test_default_types_are_those_that_change_the_file(tiny: Path, tmp_path: Path) -> None:
    assert default_types(open_model(tiny)) == list(DEFAULT_TYPES)
    file = convert_to_gguf(tiny, tmp_path / "half.gguf", "f16").file
    assert default_types(open_model(file)) == [type_ for type_ in DEFAULT_TYPES if type_ != "float16"]
    file = convert_to_gguf(tiny, tmp_path / "q8_0.gguf", "q8_0").file
    assert default_types(open_model(file)) == ["q5_1", "q5_0", "q4_1", "q4_0"]  # the others are larger


class TestBadInput:
    @pytest.mark.parametrize(("type_", "message"), [("int8", "'int8' is unknown"), ("q4_k", "makes no K-quants")])
    def test_types_are_checked_first(self, tmp_path: Path, type_: str, message: str) -> None:
        source = open_model(write_checkpoint(tmp_path / "source", n_inner=256))  # rows that K-quants divide
        with pytest.raises(RequestError, match=message):
            candidates("source", source, [type_])

    @pytest.mark.parametrize("ids", [[], [3]])
    def test_text_needs_two_tokens(self, tiny_original: Path, ids: list[int]) -> None:
        with pytest.raises(RequestError, match=f"The text has {len(ids)} tokens. Give one with at least 2"):
            compare_weights(Candidate("tiny", open_model(tiny_original)), [], ids)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"n_layer": 2}, "other has n_layer 2, and tiny has 3. Give files of the same model"),
            ({"layer_norm_epsilon": 0.5}, "other has layer_norm_epsilon 0.5, and tiny has 0.03"),
            ({"activation_function": "relu"}, "other has activation_function relu, and tiny has gelu_tanh"),
            ({"scale_attn_weights": False}, "other has scale_attn_weights False"),
        ],
    )
    def test_other_models_are_refused(
        self, tiny_original: Path, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        other = Candidate("other", open_model(write_checkpoint(tmp_path / "other", **changes)))
        with pytest.raises(RequestError, match=message):
            compare_weights(Candidate("tiny", open_model(tiny_original)), [other], IDS)

    def test_other_names_of_the_activation_function_are_accepted(self, tiny: Path, tiny_original: Path) -> None:
        edit_config(tiny, activation_function="gelu_pytorch_tanh")
        other = Candidate("other", open_model(tiny))
        compare_weights(Candidate("tiny", open_model(tiny_original)), [other], IDS[:5])

    def test_outputs_must_fit_on_the_disk(self, tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1000))
        with pytest.raises(RequestError, match=r"keeps 0.0 GB in .*Use a smaller --max-tokens, or set TMPDIR"):
            compare_weights(Candidate("tiny", open_model(tiny_original)), [], IDS)

    def test_values_beyond_a_type_are_refused(self, tmp_path: Path) -> None:
        folder = write_checkpoint(tmp_path / "source")
        model = reference_model()
        model.state_dict()["transformer.h.1.mlp.c_fc.weight"][0, 0] = 1e6
        model.save_pretrained(folder)
        source = open_model(folder, LoadOptions())
        with pytest.raises(CheckpointError, match="too large for F16"):
            compare_weights(Candidate("tiny", source), candidates("tiny", source, ["float16"]), IDS[:5])
