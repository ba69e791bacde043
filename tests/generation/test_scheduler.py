"""Continuous batching: a sequence gets the same tokens in a batch as alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from fixtures.checkpoints import random_ids, reference_model
from max_gpt2 import GPT2
from max_gpt2.errors import RequestError
from max_gpt2.generation import Engine, Request, SamplingParams, params
from max_gpt2.generation.scheduler import SequenceState
from max_gpt2.model import CompiledModel, Session

PROMPTS = [random_ids(1, count)[0].tolist() for count in (1, 13, 40, 2, 66, 9, 13, 67, 30)]


def request(number: int, **options: Any) -> Request:
    """Return request `number`; together they end with a stop token, a stop string or at max_new_tokens."""
    sampling = SamplingParams(1.0 + 0.1 * number, top_k=60, seed=number, **options)
    return Request(PROMPTS[number], 3 + 5 * number, sampling, stop=["e"] if number % 3 == 2 else (), logprobs=2)


REQUESTS = [request(number) for number in range(len(PROMPTS))]


@pytest.mark.parametrize("batch_size", [1, 2, 8, 20])
def test_batching_does_not_change_the_results(engine: Engine, batch_size: int) -> None:
    order = np.random.default_rng(batch_size).permutation(len(REQUESTS))
    together = list(engine.generate_all([REQUESTS[number] for number in order], batch_size))
    alone = [engine.generate(REQUESTS[number]) for number in order]
    for ours, expected in zip(together, alone, strict=True):
        assert (ours.prompt_tokens, ours.tokens, ours.text) == (expected.prompt_tokens, expected.tokens, expected.text)
        assert (ours.finish_reason, ours.seed, ours.logprobs) == (
            expected.finish_reason,
            expected.seed,
            expected.logprobs,
        )
        assert ours.timing.prefill_s > 0
    assert {one.finish_reason for one in alone} == {"stop", "length"}
    assert len({len(one.tokens) for one in alone}) > 5


def test_greedy_batches_equal_transformers(engine: Engine) -> None:
    prompts = [prompt for prompt in PROMPTS if len(prompt) <= 40]
    requests = [Request(prompt, 20, SamplingParams(0, bad_words=[[299]])) for prompt in prompts]
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=20, eos_token_id=None, pad_token_id=0, suppress_tokens=list(range(299, 311))
    )
    for prompt, generation in zip(prompts, engine.generate_all(requests, 3), strict=True):
        ids = torch.tensor([prompt])
        row = reference_model().generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[0]
        assert generation.tokens == row[len(prompt) :].tolist()


def test_stop_string_of_a_special_token_matches_the_token(engine: Engine) -> None:
    config = dataclasses.replace(engine.model.config, eos_token_ids=())
    logits = np.eye(config.vocab_size, dtype=np.float32)
    for stop, reason in ((["<|endoftext|>"], "stop"), (["<|other|>"], None)):
        sequence = SequenceState(config, engine.tokenizer, Request([1], 9, SamplingParams(0), stop), 0)
        assert sequence.advance(logits[5]).token == 5
        output = sequence.advance(logits[299])
        assert (output.token, output.text_delta, output.finish_reason) == (None if reason else 299, "", reason)


@pytest.fixture
def new_tokens_per_call(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, int]]:
    """Record the number of new tokens per slot in each call of `Session.extend`."""
    calls: list[dict[int, int]] = []
    extend = Session.extend

    def counted(self: Session, new_tokens: Mapping[int, Sequence[int]], num_logits: int | None = 1) -> list[np.ndarray]:
        calls.append({slot: len(ids) for slot, ids in new_tokens.items()})
        return extend(self, new_tokens, num_logits)

    monkeypatch.setattr(Session, "extend", counted)
    return calls


def test_waiting_sequence_takes_the_slot_of_a_finished_one(
    engine: Engine, new_tokens_per_call: list[dict[int, int]]
) -> None:
    counts, never_end = [2, 6, 3, 1], SamplingParams(0, bad_words=[[299]])
    list(engine.generate_all([Request([7, one], one, never_end) for one in counts], 2))
    assert new_tokens_per_call == [{0: 2, 1: 2}, {0: 1, 1: 1}, {1: 1, 0: 2}, {1: 1, 0: 1}, {1: 1, 0: 1}, {1: 1, 0: 2}]


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
def test_duplicate_prompts_are_prefilled_once(
    engine: Engine, new_tokens_per_call: list[dict[int, int]], batch_size: int
) -> None:
    whole = Request(PROMPTS[2], 9, SamplingParams(1.5, seed=40, bad_words=[[299]]))
    requests = whole.samples(7)
    together = list(engine.generate_all(requests, batch_size))
    assert sum(sum(call.values()) for call in new_tokens_per_call) == 40 + 7 * 8
    assert [one.seed for one in together] == [40, 41, 42, 43, 44, 45, 46]
    assert len({tuple(one.tokens) for one in together}) == 7
    assert [one.tokens for one in together] == [engine.generate(one).tokens for one in requests]


def test_shared_prompts_stay_correct_when_slots_are_reused(
    engine: Engine, new_tokens_per_call: list[dict[int, int]]
) -> None:
    first, second = PROMPTS[2], PROMPTS[1]
    prompts = [first, second, second, first, first, second, first, [5], second, first]
    requests = [Request(one, 1 + number % 4, SamplingParams(1.3, seed=number)) for number, one in enumerate(prompts)]
    alone = [engine.generate(one).tokens for one in requests]
    new_tokens_per_call.clear()
    assert [one.tokens for one in engine.generate_all(requests, 2)] == alone
    assert sum(count for call in new_tokens_per_call for count in call.values() if count > 1) < 4 * (40 + 13)


def test_prompt_is_prefilled_again_after_a_context_shift(engine: Engine) -> None:
    sampling, shifts = SamplingParams(0, bad_words=[[299]]), {"context_overflow": "shift"}
    prompts_and_lengths: list[tuple[list[int], int]] = [([7], 5), (PROMPTS[2], 60), ([8], 40), (PROMPTS[2], 5)]
    requests = [Request(prompt, most, sampling, **cast(Any, shifts)) for prompt, most in prompts_and_lengths]
    sequences = list(engine.generate_all(requests, 2))
    assert sequences[3].tokens == sequences[1].tokens[:5]


def test_zero_requests_and_zero_tokens_generate_nothing(engine: Engine) -> None:
    assert list(engine.generate_all([], 8)) == []
    generation = engine.generate(Request([5, 6], 0, SamplingParams(seed=1)))
    assert (generation.tokens, generation.text, generation.finish_reason, generation.timing.decode_tokens_per_s) == (
        [],
        "",
        "length",
        None,
    )


def test_invalid_requests_raise_immediately(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="batch size 0"):
        engine.generate_all(REQUESTS, 0)
    with pytest.raises(RequestError, match="n 0 is not"):
        REQUESTS[0].samples(0)
    with pytest.raises(RequestError, match="prompt id 400"):
        engine.generate_all([*REQUESTS, Request([400])], 8)
    monkeypatch.setattr(params, "memory", lambda: (10**9, 2 * 4 * 3 * 24 * 192 * 2))
    assert len(list(engine.generate_all(REQUESTS, 2))) == len(REQUESTS)
    with pytest.raises(RequestError, match=r"of 3 x 67 tokens needs 0\.0 GB .* a smaller batch size"):
        engine.generate_all(REQUESTS, 3)


def test_generate_accepts_several_prompts_and_samples(engine: Engine) -> None:
    gpt2 = GPT2(engine)
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.2, "seed": 3}
    prompts: list[str | list[int]] = ["The dog", "The quick brown fox", [5, 6]]
    sequences = gpt2.generate(prompts, **options)
    assert [one.text for one in sequences] == [gpt2.generate(one, **options).text for one in prompts]
    samples = gpt2.generate("The dog", n=2, **options)
    assert [one.seed for one in samples] == [3, 4]
    assert samples[0].text == sequences[0].text != samples[1].text
    assert [one.seed for one in gpt2.generate(["a", "b"], n=2, **options)] == [3, 4, 3, 4]
    assert len({one.seed for one in gpt2.generate("a", n=3, max_new_tokens=1)}) == 3


@pytest.mark.slow  # compiles a graph of MAX's own matmul kernels
def test_builtin_kernels_generate_the_same_tokens(builtin_model: CompiledModel, engine: Engine) -> None:
    builtin = Engine(builtin_model, engine.tokenizer)
    requests = [Request(prompt, 20, SamplingParams(0)) for prompt in PROMPTS]
    ours = [one.tokens for one in engine.generate_all(requests, 8)]
    assert [one.tokens for one in builtin.generate_all(requests, 8)] == ours
