"""`GPT2.trace`, and texts and scores of a model with edits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from max_gpt2 import GPT2
from max_gpt2.errors import RequestError
from max_gpt2.inspect import ablate_head, attribution, mean_ablate, scale, steer, zero
from max_gpt2.model import CompiledModel
from tests.support.activations import torch_activations

TEXT = "The quick brown fox, it was lazy"


@pytest.fixture(scope="module")
def gpt2(tiny_original: Path, tiny_model: CompiledModel) -> GPT2:
    del tiny_model  # compiled once for all tests
    return GPT2.from_pretrained(tiny_original)


@pytest.fixture(scope="module")
def vector(gpt2: GPT2) -> np.ndarray:
    return np.linspace(-2, 3, gpt2.config.n_embd, dtype=np.float32)


def change(vector: np.ndarray) -> Any:
    """Return the edits of `edits`, in PyTorch."""

    def edit(name: str, value: Any) -> Any:
        if name == "h.1.attn.z":
            value = value.clone()
            value[2] = 0
        return value + torch.from_numpy(vector) if name == "h.0" else value

    return edit


def test_trace_of_texts_and_ids(gpt2: GPT2, torch_model: Any) -> None:
    trace = gpt2.trace(TEXT, at=["h.*", "h.1.attn.pattern", "logits"])
    ids = gpt2.tokenizer.encode(TEXT)
    assert trace.tokens == tuple(ids)
    expected = torch_activations(torch_model, ids)
    np.testing.assert_allclose(trace["h.1.attn.pattern"], expected["h.1.attn.pattern"], atol=1e-5)
    first, second = gpt2.trace([ids, "it was"], at=["logits"])
    np.testing.assert_array_equal(first["logits"], trace["logits"])
    assert second.tokens == tuple(gpt2.tokenizer.encode("it was"))
    assert gpt2.trace("", bos=True).tokens == (gpt2.tokenizer.start_id,)
    with pytest.raises(RequestError, match="The text has 0 tokens"):
        gpt2.trace("")
    assert gpt2.trace("it was", bos=True).tokens == (gpt2.tokenizer.start_id, *second.tokens)
    token, minus = ids[0], ids[1]
    assert attribution(trace, token, minus).total == pytest.approx(
        float(trace["logits"][-1, token] - trace["logits"][-1, minus])
    )


def test_edited_model_generates_what_pytorch_does_with_hooks(gpt2: GPT2, torch_model: Any, vector: np.ndarray) -> None:
    edited = gpt2.with_edits([ablate_head(1, 2)]).with_edits([steer("h.0", vector)])
    found = edited.generate(TEXT, temperature=0, max_new_tokens=12)
    ids = gpt2.tokenizer.encode(TEXT)
    for _ in range(len(found.tokens)):
        ids.append(int(torch_activations(torch_model, ids, change(vector))["logits"][-1].argmax()))
    assert found.tokens == ids[-len(found.tokens) :]
    assert found.tokens != gpt2.generate(TEXT, temperature=0, max_new_tokens=12).tokens
    several = edited.generate([TEXT, "it was"], temperature=0, max_new_tokens=12)
    assert several[0].tokens == found.tokens
    assert "".join(edited.stream(TEXT, temperature=0, max_new_tokens=12)) == found.text


def test_edit_of_some_positions_counts_them_from_the_start(gpt2: GPT2, torch_model: Any, vector: np.ndarray) -> None:
    ids = gpt2.tokenizer.encode(TEXT)
    positions = [0, len(ids) + 1]

    def edit(name: str, value: Any) -> Any:
        places = [one for one in positions if one < len(value)]
        if name == "h.0":
            value = value.clone()
            value[places] += torch.from_numpy(3 * vector)
        return value

    edited = gpt2.with_edits([steer("h.0", vector, 3, positions=positions)])
    found = edited.generate(TEXT, temperature=0, max_new_tokens=8)
    for _ in range(len(found.tokens)):
        ids.append(int(torch_activations(torch_model, ids, edit)["logits"][-1].argmax()))
    assert found.tokens == ids[-len(found.tokens) :]


def test_edited_logits_choose_the_tokens(gpt2: GPT2) -> None:
    bias = np.zeros(gpt2.config.vocab_size, dtype=np.float32)
    bias[[7, 9]] = 4, 6
    options: dict[str, Any] = {"temperature": 0, "max_new_tokens": 9}
    prompts = [TEXT, "it was"]
    expected = gpt2.generate(prompts, logit_bias={7: 4.0, 9: 6.0}, **options)
    found = gpt2.with_edits([steer("logits", bias)]).generate(prompts, **options)
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    first = len(gpt2.tokenizer.encode(TEXT))
    only = gpt2.with_edits([steer("logits", 1000 * bias, positions=[first])]).generate(TEXT, **options)
    assert only.tokens[1] == 9
    assert only.tokens[0] == gpt2.generate(TEXT, **options).tokens[0]


def test_edited_model_scores_as_pytorch_does_with_hooks(gpt2: GPT2, torch_model: Any, vector: np.ndarray) -> None:
    edited = gpt2.with_edits([ablate_head(1, 2), steer("h.0", vector)])
    score = edited.score(TEXT)
    ids = gpt2.tokenizer.encode(TEXT)
    logits = torch_activations(torch_model, [gpt2.tokenizer.start_id, *ids], change(vector))["logits"]
    expected = torch.from_numpy(logits[:-1]).double().log_softmax(dim=-1)[np.arange(len(ids)), ids]
    np.testing.assert_allclose(score.logprobs, expected, atol=1e-4)


def test_edit_without_effect_changes_no_text(gpt2: GPT2) -> None:
    same = gpt2.with_edits([scale("h.*", 1), scale("h.*.attn.k", 1)])
    options: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_new_tokens": 20}
    assert same.generate(TEXT, **options).tokens == gpt2.generate(TEXT, **options).tokens
    assert gpt2.with_edits([]) is gpt2


def test_edits_are_an_option_of_every_method(gpt2: GPT2, vector: np.ndarray) -> None:
    edits = [ablate_head(1, 2), steer("h.0", vector)]
    edited = gpt2.with_edits(edits)
    options: dict[str, Any] = {"max_new_tokens": 12}
    assert gpt2.trace(TEXT, edits=edits)["logits"].tobytes() == edited.trace(TEXT)["logits"].tobytes()
    assert gpt2.score([TEXT, "it was"], edits=edits)[1].logprob == edited.score("it was").logprob
    expected = edited.generate(TEXT, temperature=0, **options)
    assert gpt2.generate([TEXT], edits=edits, temperature=0, **options)[0].tokens == expected.tokens
    assert "".join(gpt2.stream(TEXT, edits=edits, temperature=0, **options)) == expected.text
    assert gpt2.beam_search(TEXT, edits=edits, **options) == edited.beam_search(TEXT, **options)
    # They come after the edits that the model has.
    other = gpt2.with_edits(edits[:1]).generate(TEXT, edits=edits[1:], temperature=0, **options)
    assert other.tokens == expected.tokens
    assert gpt2.generate(TEXT, temperature=0, **options).tokens != expected.tokens


def test_beams_of_an_edited_model_have_the_probabilities_of_pytorch(
    gpt2: GPT2, torch_model: Any, vector: np.ndarray
) -> None:
    ids = gpt2.tokenizer.encode(TEXT)
    for beam in gpt2.beam_search(TEXT, num_beams=3, max_new_tokens=7, edits=[ablate_head(1, 2), steer("h.0", vector)]):
        logits = torch_activations(torch_model, [*ids, *beam.tokens], change(vector))["logits"][len(ids) - 1 : -1]
        logprobs = torch.from_numpy(logits).double().log_softmax(dim=-1)[np.arange(len(beam.tokens)), beam.tokens]
        assert beam.logprob == pytest.approx(float(logprobs.sum()), abs=1e-3)


def test_other_edits_compile_nothing(gpt2: GPT2, monkeypatch: pytest.MonkeyPatch, vector: np.ndarray) -> None:
    gpt2.trace("it was")
    for name in ("load_or_compile_stages", "load_or_compile_scoring"):
        monkeypatch.setattr(f"max_gpt2.model.compile_cache.{name}", lambda *_: pytest.fail("a graph is loaded"))
    for edit in (steer("h.0", vector), ablate_head(0, 1), zero("h.*.mlp", positions=[3])):
        gpt2.score(TEXT, edits=[edit])
        gpt2.generate(TEXT, edits=[edit], max_new_tokens=2)
        gpt2.with_edits([edit]).trace(TEXT)


def test_mean_over_the_text_cannot_generate(gpt2: GPT2) -> None:
    edited = gpt2.with_edits([mean_ablate("h.1.mlp")])
    assert edited.score(TEXT).logprob != gpt2.score(TEXT).logprob
    for call in (edited.generate, edited.stream, edited.beam_search):
        with pytest.raises(RequestError, match=r"The edit of h\.1\.mlp needs the whole text at once"):
            call(TEXT)
        with pytest.raises(RequestError, match=r"The edit of h\.1\.mlp needs the whole text at once"):
            getattr(gpt2, call.__name__)(TEXT, edits=[mean_ablate("h.1.mlp")])
    with pytest.raises(RequestError, match="Head 9 does not exist"):
        gpt2.with_edits([ablate_head(0, 9)])
