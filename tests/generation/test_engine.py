import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from fixtures.checkpoints import random_ids, reference_logits, reference_model
from max_gpt2 import GPT2
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import Engine, Generation, Request, SamplingParams, encode_prompt, open_model

PROMPT = [5, 60, 200, 7]
GREEDY = SamplingParams(0)


@pytest.fixture
def endless(engine: Engine) -> Engine:
    """An engine without stop tokens."""
    return ending_with(engine)


def ending_with(engine: Engine, *ids: int) -> Engine:
    config = dataclasses.replace(engine.model.config, eos_token_ids=ids)
    return dataclasses.replace(engine, model=dataclasses.replace(engine.model, config=config))


def generate(
    engine: Engine, count: int, sampling: SamplingParams, prompt: Sequence[int] = PROMPT, **rest: Any
) -> Generation:
    return engine.generate(Request(prompt, count, sampling, **rest))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"repetition_penalty": 1.7}, {"repetition_penalty": 1.7}),
        ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
        ({"bad_words": [[60], [7, 5]]}, {"bad_words_ids": [[60], [7, 5]]}),
    ],
)
def test_greedy_tokens_match_transformers(endless: Engine, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    generation = generate(endless, 30, SamplingParams(0, **ours))
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=None,
        pad_token_id=0,
        suppress_tokens=list(range(300, 311)),
        **theirs,
    )
    ids = torch.tensor([PROMPT])
    row = reference_model().generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[0]
    assert generation.tokens == row[len(PROMPT) :].tolist()
    assert generation.prompt_tokens == PROMPT
    assert generation.finish_reason == "length"
    assert generation.text == endless.tokenizer.decode(generation.tokens)
    assert generation.timing.decode_tokens_per_s is not None
    assert generation.timing.decode_tokens_per_s > 0


def test_stop_token_ends_generation(endless: Engine) -> None:
    sampling = SamplingParams(1.0, seed=1)
    tokens = generate(endless, 20, sampling).tokens
    ending = tokens[5]
    cut = tokens[: tokens.index(ending)]
    for generation in (
        generate(ending_with(endless, ending), 20, sampling),
        generate(endless, 20, sampling, stop_ids=[ending]),
    ):
        assert generation.finish_reason == "stop"
        assert generation.tokens == cut
        assert generation.text == endless.tokenizer.decode(cut)


def test_min_new_tokens_suppresses_stop_tokens(endless: Engine) -> None:
    first = generate(endless, 1, GREEDY).tokens[0]
    engine = ending_with(endless, first)
    assert generate(engine, 9, GREEDY).tokens == []
    assert len(generate(engine, 9, SamplingParams(0, min_new_tokens=4)).tokens) >= 4


def test_stop_string_is_cut_off(endless: Engine) -> None:
    text = generate(endless, 30, GREEDY).text
    stop = text[10:14]
    generation = generate(endless, 30, GREEDY, stop=["never", stop])
    assert generation.finish_reason == "stop"
    assert generation.text == text[: text.index(stop)]
    assert endless.tokenizer.decode(generation.tokens).startswith(generation.text + stop[:1])
    assert len(generation.tokens) < 30


def test_streamed_outputs_equal_the_generation(endless: Engine) -> None:
    sampling = SamplingParams(1.0, seed=4)
    outputs = list(endless.stream(Request(PROMPT, 25, sampling)))
    whole = generate(endless, 25, sampling)
    assert [output.token for output in outputs] == whole.tokens
    assert "".join(output.text_delta for output in outputs) == whole.text
    assert [output.finish_reason for output in outputs] == [None] * 24 + ["length"]


def test_logprobs_precede_the_logits_processors(endless: Engine) -> None:
    generation = generate(endless, 5, SamplingParams(1.0, top_k=3, repetition_penalty=2.0, seed=2), logprobs=4)
    row = np.array([PROMPT + generation.tokens])
    logprobs = torch.from_numpy(reference_logits(reference_model(), row)).log_softmax(dim=-1)[0, len(PROMPT) - 1 :]
    assert len(generation.logprobs) == 5
    for one, expected in zip(generation.logprobs, logprobs, strict=False):
        assert one.logprob == pytest.approx(float(expected[one.token]), abs=1e-4)
        most_likely = expected.topk(4)
        assert list(one.top) == most_likely.indices.tolist()
        assert list(one.top.values()) == pytest.approx(most_likely.values.tolist(), abs=1e-4)
    assert generate(endless, 5, GREEDY).logprobs == []


def test_reported_seed_reproduces_the_tokens(endless: Engine) -> None:
    first = generate(endless, 12, SamplingParams(1.5))
    again = generate(endless, 12, SamplingParams(1.5, seed=first.seed))
    other = generate(endless, 12, SamplingParams(1.5, seed=first.seed + 1))
    assert again.tokens == first.tokens != other.tokens


def test_ids_outside_the_tokenizer_are_never_generated(endless: Engine) -> None:
    seen = {
        id_ for seed in range(5) for id_ in generate(endless, 50, SamplingParams(9, seed=seed), prompt=[310]).tokens
    }
    assert max(seen) < endless.tokenizer.size < endless.model.config.vocab_size
    assert len(seen) > 100


@pytest.mark.parametrize("count", [1, 60, 66, 67])
def test_generation_stops_at_the_end_of_the_context(endless: Engine, count: int) -> None:
    prompt = random_ids(1, count)[0].tolist()
    generation = generate(endless, 100, SamplingParams(0, bad_words=[[299]]), prompt=prompt)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=68 - count, pad_token_id=0, suppress_tokens=list(range(299, 311))
    )
    ids = torch.tensor([prompt])
    row = reference_model().generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[0]
    assert generation.tokens == row[count:].tolist()
    assert len(generation.tokens) == 68 - count
    assert generation.finish_reason == "length"


@pytest.mark.parametrize("count", [1, 60, 67, 90])
def test_context_shift_keeps_the_last_half(endless: Engine, count: int) -> None:
    prompt = random_ids(1, count)[0].tolist()
    sequence, context = list(prompt), prompt[-67:] if count <= 67 else prompt[-33:]
    while len(sequence) < count + 110:
        logits = reference_logits(reference_model(), np.array([context]))[0, -1, :299]
        sequence.append(int(logits.argmax()))
        context = sequence[-33:] if len(context) == 67 else [*context, sequence[-1]]
    options: dict[str, Any] = {"prompt": prompt, "context_overflow": "shift"}
    generation = generate(endless, 110, SamplingParams(0, bad_words=[[299]]), **options)
    assert generation.tokens == sequence[count:]
    assert generation.finish_reason == "length"
    batch = endless.generate_all(
        [
            Request(prompt, length, SamplingParams(0, bad_words=[[299]]), context_overflow="shift")
            for length in (5, 110, 70)
        ],
        2,
    )
    assert [one.tokens for one in batch] == [sequence[count : count + length] for length in (5, 110, 70)]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([], 1), "has no tokens"),
        (Request([1, 311], 1), r"prompt id 311 is not in 0 \.\. 310"),
        (Request([-1], 1), "prompt id -1"),
        (Request([1], -1), "max_new_tokens -1 is negative"),
        (Request([1] * 68, 0), "68 tokens exceed the model's context of 67"),
        (Request([1], 1, context_overflow=cast(Any, "wrap")), "context_overflow 'wrap' is neither"),
        (Request([1], 1, stop_ids=[400]), "stop id 400"),
        (Request([1], 1, stop=[""]), "stop string is empty"),
        (Request([1], 1, logprobs=400), r"logprobs 400 is not in 0 \.\. 311"),
        (Request([1], 1, SamplingParams(bad_words=[[305]])), r"the id 305, which is not in 0 \.\. 299"),
    ],
)
def test_invalid_request_raises_before_generation(engine: Engine, request_: Request, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        engine.stream(request_)
    with pytest.raises(RequestError, match=message):
        engine.generate(request_)


def test_empty_prompt_is_one_end_of_text_token(tiny_checkpoint: Checkpoint) -> None:
    assert encode_prompt(tiny_checkpoint.tokenizer, "") == [299]
    assert encode_prompt(tiny_checkpoint.tokenizer, "a") == tiny_checkpoint.tokenizer.encode("a")


def test_config_and_tokenizer_are_readable_before_the_weights(tiny: Path) -> None:
    source = open_model(tiny)
    assert source.config.n_layer == 3
    assert source.tokenizer.encode("The dog")
    (tiny / "model.safetensors").unlink()
    with pytest.raises(MaxGPT2Error, match=r"model\.safetensors can no longer be read"):
        source.load()


def test_public_class_accepts_text_and_ids(tiny_original: Path, endless: Engine) -> None:
    gpt2 = GPT2.from_pretrained(tiny_original)
    prompt = gpt2.tokenizer.encode("The dog")
    generation = gpt2.generate("The dog", max_new_tokens=8, temperature=0)
    assert generation.prompt_tokens == prompt
    assert generation.tokens == gpt2.generate(prompt, max_new_tokens=8, temperature=0).tokens
    assert generation.tokens == generate(ending_with(endless, 299), 8, GREEDY, prompt=prompt).tokens
    deltas = list(gpt2.stream("The dog", max_new_tokens=8, temperature=0))
    assert "".join(deltas) == generation.text
    assert all(deltas)
    assert gpt2.config.n_positions == 67
    with pytest.raises(RequestError, match="top_p 0 is not above 0"):
        gpt2.stream("The dog", top_p=0)
    with pytest.raises(TypeError, match="topp"):
        gpt2.generate("The dog", topp=0.5)  # type: ignore[call-overload]
