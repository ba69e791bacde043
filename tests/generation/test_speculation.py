"""Speculation changes no token, whatever is drafted."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import RequestError
from max_gpt2.generation import Engine, Request, SamplingParams
from max_gpt2.generation.logits import History, make_sampler
from max_gpt2.generation.outputs import Drafts, Generation
from max_gpt2.generation.speculation import (
    Choose,
    DraftLength,
    ModelDrafter,
    ModelSpeculation,
    NgramDrafter,
    NgramSpeculation,
    Speculation,
    check_draft,
)
from max_gpt2.model import CompiledModel
from max_gpt2.model.compile_cache import load_or_compile
from max_gpt2.tokenizer import GPT2Tokenizer

REPETITIVE = [5, 9, 30, 5, 9, 30, 5, 9, 30, 7, 5, 9]
#: Requests that end in every way, with every option that depends on the tokens so far.
REQUESTS = [
    Request(REPETITIVE, 40, SamplingParams(0, seed=0), logprobs=2),
    Request(REPETITIVE, 50, SamplingParams(0.4, seed=1), logprobs=1),
    Request([1, 2, 3], 30, SamplingParams(1.2, top_k=50, top_p=0.9, seed=2), stop=["e", "a"]),
    Request(REPETITIVE * 5, 40, SamplingParams(0.3, seed=3)),  # fills the context
    Request(REPETITIVE, 150, SamplingParams(0.2, seed=4), context_overflow="shift"),
    Request([7], 60, SamplingParams(0, repetition_penalty=1.3, no_repeat_ngram_size=3, seed=0)),
    Request(REPETITIVE, 25, SamplingParams(0.5, presence_penalty=0.5, frequency_penalty=0.2, seed=5)),
    Request(REPETITIVE, 40, SamplingParams(0.7, seed=6), stop_ids=[5, 9, 30]),
    Request(REPETITIVE, 1, SamplingParams(0, seed=0)),
    Request(REPETITIVE, 0, SamplingParams(0, seed=0)),
]


@dataclass(frozen=True)
class Drawn:
    """A drafter that calls a function."""

    draft_tokens: Any

    def check(self, kernels: str, sequences: int) -> None:
        pass

    def start(self) -> "Drawn":
        return self

    def draft(self, tokens: Sequence[int], count: int, choose: Choose) -> list[int]:
        found: list[int] = self.draft_tokens(list(tokens), count)
        return found


@pytest.fixture(scope="module")
def other_model(tiny_checkpoint: Checkpoint) -> CompiledModel:
    """A model with slightly other weights, which chooses the same token most of the time."""
    rng = np.random.default_rng(0)
    weights = {
        name: value + 0.01 * rng.standard_normal(value.shape).astype(np.float32)
        for name, value in tiny_checkpoint.state_dict.items()
    }
    return load_or_compile(tiny_checkpoint.config, weights)


def result(generation: Generation) -> dict[str, Any]:
    values = dataclasses.asdict(generation)
    return {name: value for name, value in values.items() if name not in ("timing", "drafts")}


@pytest.fixture(scope="module")
def expected(engine: Engine) -> list[dict[str, Any]]:
    return [result(engine.generate(one)) for one in REQUESTS]


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_ngrams_change_no_result(engine: Engine, expected: list[dict[str, Any]], batch_size: int) -> None:
    found = list(replace(engine, speculation=NgramSpeculation()).generate_all(REQUESTS, batch_size))
    assert [result(one) for one in found] == expected
    assert sum(one.drafts.accepted for one in found) > 5
    assert found[-1].drafts == found[-2].drafts == Drafts()


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_draft_model_changes_no_result(
    engine: Engine, expected: list[dict[str, Any]], other_model: CompiledModel, batch_size: int
) -> None:
    found = list(replace(engine, speculation=ModelSpeculation(other_model)).generate_all(REQUESTS, batch_size))
    assert [result(one) for one in found] == expected
    drafts = [one.drafts for one in found]
    assert sum(one.accepted for one in drafts) > 0.2 * sum(one.drafted for one in drafts) > 20


def test_model_that_drafts_for_itself_is_always_right(engine: Engine, expected: list[dict[str, Any]]) -> None:
    speculating = replace(engine, speculation=ModelSpeculation(engine.model))
    for request, one in zip(REQUESTS, expected, strict=True):
        found = speculating.generate(request)
        assert result(found) == one
        if request.context_overflow == "stop" and found.finish_reason == "length":
            assert found.drafts.accepted == found.drafts.drafted


def test_accepted_drafts_save_passes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    run = engine.model.run

    def counted(*inputs: Any) -> Any:
        passes.append(1)
        return run(*inputs)

    plain = engine.generate(REQUESTS[0])
    text = [*plain.prompt_tokens, *plain.tokens]
    right = Drawn(lambda tokens, count: text[len(tokens) : len(tokens) + count])
    counting = replace(engine, model=replace(engine.model, run=counted), speculation=right)
    found = counting.generate(REQUESTS[0])
    assert found.tokens == plain.tokens
    assert found.drafts.accepted == found.drafts.drafted == 40 - len(passes)
    assert len(passes) < 12


@given(seed=st.integers(0, 2**31), wrong=st.floats(0, 1), number=st.integers(0, len(REQUESTS) - 1))
def test_any_draft_changes_no_result(
    engine: Engine, expected: list[dict[str, Any]], seed: int, wrong: float, number: int
) -> None:
    rng = np.random.default_rng(seed)
    text = [*expected[number]["prompt_tokens"], *expected[number]["tokens"]]

    def draft(tokens: list[int], count: int) -> list[int]:
        right = text[len(tokens) : len(tokens) + int(rng.integers(0, count + 1))]
        return [int(rng.integers(0, 311)) if rng.random() < wrong else token for token in right]

    found = replace(engine, speculation=Drawn(draft)).generate(REQUESTS[number])
    assert result(found) == expected[number]


def test_stream_yields_the_same_pieces(engine: Engine) -> None:
    for request in REQUESTS:
        plain = [(one.token, one.text_delta, one.finish_reason) for one in engine.stream(request)]
        speculating = replace(engine, speculation=NgramSpeculation())
        assert [(one.token, one.text_delta, one.finish_reason) for one in speculating.stream(request)] == plain


@given(st.lists(st.integers(0, 4), max_size=60), st.lists(st.integers(1, 9), max_size=10))
def test_ngram_drafts_continue_the_last_occurrence(tokens: list[int], steps: list[int]) -> None:
    drafter, length = NgramDrafter(), 0
    for step in steps:
        length = min(length + step, len(tokens))
        seen = tokens[:length]
        found = drafter.draft(seen, 5, lambda *_: 0)
        starts = [
            end
            for size in (4, 3, 2)
            for end in range(length - 1, size - 1, -1)
            if length > size and seen[end - size : end] == seen[-size:]
        ]
        text = list(seen)
        for _ in range(5 if starts else 0):
            text.append(text[starts[0] + len(text) - length])
        assert found == text[length:]


def test_sampler_looks_ahead_with_the_numbers_of_later_calls() -> None:
    logits = np.random.default_rng(3).standard_normal((6, 50)).astype(np.float32)
    params = SamplingParams(1.0, top_k=20, seed=4)
    plain, ahead = make_sampler(params, 4, 50), make_sampler(params, 4, 50)
    expected = [plain(row, History([0])) for row in logits]
    assert [ahead.ahead(row, History([0]), number) for number, row in enumerate(logits)] == expected
    assert ahead.ahead(logits[2], History([0]), 2) == expected[2]
    assert [ahead(row, History([0])) for row in logits] == expected


def test_useless_drafts_become_rare() -> None:
    length, drafted = DraftLength(), 0
    for _ in range(1000):
        if count := length.next():
            drafted += count
            length.update(count, 0)
    assert drafted < 40
    for _ in range(100):
        if count := length.next():
            length.update(count, count)
    assert length.next() == DraftLength.LONGEST


def test_draft_model_computes_each_token_once(other_model: CompiledModel) -> None:
    drafter, computed = ModelDrafter(other_model), []
    extend = drafter._session.extend

    def counted(new: Mapping[int, Sequence[int]]) -> Any:
        computed.append(len(new[0]))
        return extend(new)

    drafter._session.extend = counted  # type: ignore[method-assign, assignment]
    tokens = list(range(20))
    first = drafter.draft(tokens, 3, lambda logits, _: int(logits.argmax()))
    assert computed == [20, 1, 1]
    longer = [*tokens, first[0], 300]  # the second drafted token was rejected
    fresh = ModelDrafter(other_model).draft(longer, 1, lambda logits, _: int(1000 * logits.sum()))
    assert drafter.draft(longer, 1, lambda logits, _: int(1000 * logits.sum())) == fresh
    assert computed[3:] == [1]  # all but the last are known
    assert drafter.draft(list(range(67)), 3, lambda *_: 0) == []


def test_other_tokenizer_or_kernels_are_refused(
    engine: Engine, builtin_model: CompiledModel, tiny_checkpoint: Checkpoint
) -> None:
    tokenizer, config = tiny_checkpoint.tokenizer, tiny_checkpoint.config
    check_draft(tokenizer, config, tokenizer)
    swapped = {token: {5: 6, 6: 5}.get(id_, id_) for token, id_ in tokenizer.vocab.items()}
    other = GPT2Tokenizer.from_vocab(swapped, [], 311, "swapped")
    with pytest.raises(RequestError, match="The draft model has another tokenizer"):
        check_draft(tokenizer, config, other)
    with pytest.raises(RequestError, match="The draft model has 10 tokens"):
        check_draft(tokenizer, replace(config, vocab_size=10), tokenizer)
    speculation: Speculation
    for speculation in (NgramSpeculation(), ModelSpeculation(engine.model)):
        with pytest.raises(RequestError, match="The builtin kernels compute other bits"):
            Engine(builtin_model, tokenizer, speculation).generate(REQUESTS[0])
