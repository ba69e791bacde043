"""The activations that the tutorial's model computes, read from its own code."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from max.experimental import functional as F

import solutions.solution_04 as step_04
import solutions.solution_07 as step_07
import solutions.solution_08 as step_08
import solutions.solution_09 as step_09
import solutions.solution_11 as step_11
import solutions.solution_12 as step_12
from max_gpt2.errors import RequestError
from max_gpt2.inspect import Tracer, ablate_head, attribution, logit_lens, probe_names
from max_gpt2.inspect.module import ModuleTracer
from solutions.solution_01 import GPT2Config
from solutions.solution_13 import MaxGPT2LMHeadModel
from tests.support.activations import assert_equal, texts, torch_activations


def test_every_activation_of_a_module_equals_pytorch(module_tracer: ModuleTracer, torch_model: Any) -> None:
    (ids,) = texts(module_tracer.config, 19)
    (trace,) = module_tracer.trace([ids], ["**"])
    assert list(trace) == probe_names(module_tracer.config)
    assert_equal(trace, torch_activations(torch_model, ids))


def test_texts_of_other_lengths_are_traced(module_tracer: ModuleTracer, torch_model: Any) -> None:
    several = texts(module_tracer.config, 1, 8, module_tracer.config.n_positions)
    for ids, trace in zip(several, module_tracer.trace(several, ["logits"]), strict=True):
        assert list(trace) == ["logits"]
        assert_equal(trace, torch_activations(torch_model, ids))
        assert list(trace.with_activations(["h.1"])) == ["logits", "h.1"]


def test_lens_and_attribution_of_a_module_equal_those_of_the_engine(
    module_tracer: ModuleTracer, tracer: Tracer
) -> None:
    (ids,) = texts(tracer.config, 9)
    (ours,), (theirs,) = (one.trace([ids], ["logits"]) for one in (module_tracer, tracer))
    np.testing.assert_array_equal(logit_lens(ours).tokens, logit_lens(theirs).tokens)
    np.testing.assert_allclose(logit_lens(ours).probabilities, logit_lens(theirs).probabilities, rtol=1e-4)
    found, expected = attribution(ours, 5, minus=7), attribution(theirs, 5, minus=7)
    np.testing.assert_allclose(found.heads, expected.heads, atol=1e-4)
    np.testing.assert_allclose(found.mlps, expected.mlps, atol=1e-4)
    assert found.total == pytest.approx(expected.total, abs=1e-4)


def without_mask(query: Any, key: Any, value: Any) -> Any:
    return F.softmax(query @ key.transpose(-2, -1) * int(query.shape[-1]) ** -0.5) @ value


def over_queries(query: Any, key: Any, value: Any) -> Any:
    scores = query @ key.transpose(-2, -1) * int(query.shape[-1]) ** -0.5 + step_08.causal_mask(query.shape[-2])
    return F.softmax(scores, axis=-2) @ value


def by_hand(query: Any, key: Any, value: Any) -> Any:
    scores = query @ key.transpose(-2, -1) * int(query.shape[-1]) ** -0.5 + step_08.causal_mask(query.shape[-2])
    weights = F.exp(scores)
    return weights / F.sum(weights, axis=-1) @ value


def without_activation(self: Any, x: Any) -> Any:
    return self.c_proj(self.c_fc(x))


def key_first(self: Any, x: Any) -> Any:
    query, key, value = F.split(self.c_attn(x), [self.n_embd] * 3, axis=-1)
    return key, query, value


def split_wrongly(self: Any, x: Any) -> Any:
    batch, seq, _ = x.shape
    return x.reshape([batch, self.n_head, seq, self.head_dim])


def parallel(self: Any, x: Any) -> Any:
    return x + self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))


def first_norm_twice(self: Any, x: Any) -> Any:
    x = x + self.attn(self.ln_1(x))
    return x + self.mlp(self.ln_1(x))


def without_positions(self: Any, input_ids: Any) -> Any:
    x = self.wte(input_ids)
    for block in self.h:
        x = block(x)
    return self.ln_f(x)


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "first"),
    [
        (step_12.GPT2Model, "forward", without_positions, "embeddings"),
        (step_07.GPT2SingleHeadQKV, "forward", key_first, "h.0.attn.q"),
        (step_09.GPT2MultiHeadAttention, "split_heads", split_wrongly, "h.0.attn.scores"),
        (step_09, "compute_attention", without_mask, "h.0.attn.scores"),
        (step_09, "compute_attention", over_queries, "h.0.attn.pattern"),
        (step_11.GPT2Block, "forward", parallel, "h.0.resid_mid"),
        (step_04.GPT2MLP, "forward", without_activation, "h.0.mlp.post"),
    ],
)
def test_broken_module_differs_first_where_it_is_broken(
    module_tracer: ModuleTracer, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Any, first: str
) -> None:
    (ids,) = texts(module_tracer.config, 13)
    (right,) = module_tracer.trace([ids], ["**"])
    monkeypatch.setattr(owner, name, wrong)
    (broken,) = module_tracer.trace([ids], ["**"])
    different = [one for one in right if not np.allclose(broken[one], right[one], atol=1e-4)]
    assert different[0] == first


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "message"),
    [
        (step_09, "compute_attention", by_hand, "h.1.attn.scores. They are read where the attention calls F.softmax"),
        (step_11.GPT2Block, "forward", first_norm_twice, "h.1.resid_mid. It does not call transformer.h.1.ln_2"),
    ],
)
def test_activation_that_a_module_does_not_compute_is_named(
    module_tracer: ModuleTracer, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Any, message: str
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(RequestError, match=message):
        module_tracer.trace([[1, 2, 3]], ["h.1.**"])


def test_zero_weights_of_a_head_ablate_it(module_tracer: ModuleTracer, torch_model: Any) -> None:
    (ids,) = texts(module_tracer.config, 11)
    head_dim, name = module_tracer.config.head_dim, "transformer.h.1.attn.c_proj.weight"
    weight = module_tracer.parameters[name].copy()
    weight[:, 2 * head_dim :] = 0
    (trace,) = module_tracer.with_parameters({name: weight}).trace([ids], ["h.2", "logits"])

    def ablate(at: str, value: torch.Tensor) -> torch.Tensor:
        return torch.cat([value[:2], 0 * value[2:]]) if at == "h.1.attn.z" else value

    assert_equal(trace, torch_activations(torch_model, ids, ablate))
    assert not np.allclose(module_tracer.trace([ids], ["h.2"])[0]["h.2"], trace["h.2"], atol=1e-3)


def test_bad_requests_are_refused(module_tracer: ModuleTracer) -> None:
    requests: list[tuple[Callable[[], object], str]] = [
        (lambda: module_tracer.with_parameters({"wte": np.zeros(1)}), "no parameter wte"),
        (lambda: module_tracer.with_parameters({"transformer.ln_f.bias": np.zeros(3)}), r"is \[24\], .* \[3\]"),
        (lambda: module_tracer.trace([[]], ["h.*"]), "0 tokens"),
        (lambda: module_tracer.trace([[1]], ["h.7"]), "layers 0 to 2"),
        (lambda: replace(module_tracer, edits=(ablate_head(0, 0),)).trace([[1]], ["h.*"]), "without edits"),
        (
            lambda: ModuleTracer.of(MaxGPT2LMHeadModel(GPT2Config(n_embd=24, n_head=3)), module_tracer.tokenizer),
            "Call load_state_dict first",
        ),
    ]
    for call, message in requests:
        with pytest.raises(RequestError, match=message):
            call()
