import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import Engine, Request, encode_prompt, generate_once
from max_gpt2.model import CompiledModel
from max_gpt2.progress import Result
from tests.checkpoints import reference_model

PROMPT = [5, 60, 200, 7]


@pytest.fixture
def engine(tiny_model: CompiledModel, tiny_checkpoint: Checkpoint) -> Engine:
    return Engine(tiny_model, tiny_checkpoint.tokenizer)


@pytest.fixture
def endless(engine: Engine) -> Engine:
    """An engine for which no token ends a text."""
    config = dataclasses.replace(engine.model.config, eos_token_ids=())
    return dataclasses.replace(engine, model=dataclasses.replace(engine.model, config=config))


def test_greedy_tokens_are_those_of_transformers(endless: Engine) -> None:
    written = endless.generate(PROMPT, max_new_tokens=30, temperature=0)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=30, eos_token_id=None, pad_token_id=0, suppress_tokens=list(range(300, 311))
    )
    ids = torch.tensor([PROMPT])
    theirs = reference_model().generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    assert written.tokens == theirs[0, len(PROMPT) :].tolist()
    assert written.prompt_tokens == PROMPT
    assert written.finish_reason == "length"
    assert written.text == endless.tokenizer.decode(written.tokens)
    assert written.decode_tokens_per_s is not None
    assert written.decode_tokens_per_s > 0


def test_an_end_of_text_token_ends_the_text(endless: Engine) -> None:
    tokens = endless.generate(PROMPT, max_new_tokens=20, temperature=1.0, seed=1).tokens
    ending = tokens[5]
    config = dataclasses.replace(endless.model.config, eos_token_ids=(ending,))
    engine = dataclasses.replace(endless, model=dataclasses.replace(endless.model, config=config))
    written = engine.generate(PROMPT, max_new_tokens=20, temperature=1.0, seed=1)
    assert written.finish_reason == "stop"
    assert written.tokens == tokens[: tokens.index(ending)]


def test_the_seed_decides_and_is_reported(endless: Engine) -> None:
    first = endless.generate(PROMPT, max_new_tokens=12, temperature=1.5)
    again = endless.generate(PROMPT, max_new_tokens=12, temperature=1.5, seed=first.seed)
    other = endless.generate(PROMPT, max_new_tokens=12, temperature=1.5, seed=first.seed + 1)
    assert again.tokens == first.tokens != other.tokens


def test_an_id_that_the_tokenizer_does_not_have_is_never_written(endless: Engine) -> None:
    seen = {
        id_ for seed in range(5) for id_ in endless.generate([1], max_new_tokens=50, temperature=9, seed=seed).tokens
    }
    assert max(seen) < endless.tokenizer.size < endless.model.config.vocab_size
    assert len(seen) > 100


def test_the_context_can_be_filled_to_the_last_position(endless: Engine) -> None:
    assert len(endless.generate(PROMPT, max_new_tokens=63, temperature=0).tokens) == 63
    assert endless.generate(PROMPT * 16 + [1, 2, 3], max_new_tokens=0).tokens == []


@pytest.mark.parametrize(
    ("prompt", "max_new_tokens", "says"),
    [
        ([], 1, "has no tokens"),
        ([1, 311], 1, "prompt id 311 is not in 0 .. 310"),
        ([-1], 1, "prompt id -1"),
        ([1], -1, "max_new_tokens -1 is negative"),
        ([1, 2], 66, "2 tokens and max_new_tokens 66 exceed the model's context of 67"),
        ([1] * 70, 0, "70 tokens .* ask for at most 0"),
    ],
)
def test_impossible_requests_are_refused(engine: Engine, prompt: list[int], max_new_tokens: int, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        engine.generate(prompt, max_new_tokens=max_new_tokens)


def test_an_empty_prompt_is_one_end_of_text(tiny_checkpoint: Checkpoint) -> None:
    assert encode_prompt(tiny_checkpoint.tokenizer, "") == [299]
    assert encode_prompt(tiny_checkpoint.tokenizer, "a") == tiny_checkpoint.tokenizer.encode("a")


def test_everything_is_checked_before_anything_is_loaded_or_compiled(tiny_original: Path) -> None:
    def forbidden(label: str, _work: Callable[[], Result], /) -> Result:
        raise AssertionError(label)

    for request in (
        Request("x" * 80, None, 1, 0.8, 0, None),
        Request("a", [1], 1, 0.8, 0, None),
        Request("a", None, 1, -0.8, 0, None),
        Request("a", None, 1, 0.8, -1, None),
        Request("a", None, -1, 0.8, 0, None),
        Request(None, [], 1, 0.8, 0, None),
    ):
        with pytest.raises(MaxGPT2Error):
            generate_once(str(tiny_original), request, forbidden)


def test_generate_once_is_the_whole_way(tiny_original: Path, endless: Engine, tiny_model: CompiledModel) -> None:
    shot = generate_once(str(tiny_original), Request("The dog", None, 8, 0, 0, None))
    prompt = endless.tokenizer.encode("The dog")
    assert shot.prompt == "The dog"
    assert shot.generation.prompt_tokens == prompt
    row = np.array([prompt])
    assert shot.generation.tokens[0] == tiny_model.logits(row)[0, -1, :300].argmax()
