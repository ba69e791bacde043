"""Texts that MAX's scheduler puts together in one batch, in a cache of pages, beside transformers."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from max.pipelines.context.exceptions import InputError

from fixtures.checkpoints import FLAGS, reference_model, write_checkpoint
from max_gpt2.generation.logits import History, make_sampler
from max_gpt2.generation.params import SamplingParams
from max_gpt2.serve.prepare import Prepared, prepare
from max_gpt2.serve.worker.settings import CACHE_BYTES_VARIABLE, min_cache_bytes
from tests.serve.worker.scheduled import Ask, Scheduled, Written

#: Four pages, the last of which is not whole.
CHANGES = {"n_positions": 389}
VOCAB, TOKENS = 311, 300
#: Around the borders of pages, of the pieces in which attention is computed, and of the context.
LENGTHS = [1, 2, 3, 47, 48, 49, 63, 64, 65, 95, 96, 97, 115, 116, 117, 126, 127, 128, 129, 130, 140, 191, 192, 200]
LENGTHS += [243, 244, 254, 255, 256, 257, 300, 376, 377]


@pytest.fixture(scope="module")
def model() -> Any:
    return reference_model(**CHANGES)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(write_checkpoint(tmp_path_factory.mktemp("served") / "tiny", **CHANGES))


@pytest.fixture(scope="module")
def server(prepared: Prepared) -> Scheduled:
    return Scheduled(prepared)


@pytest.fixture(scope="module")
def narrow(prepared: Prepared) -> Iterator[Scheduled]:
    """A cache in which two texts at most can be long, and prompts that are read in pieces of 50 tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_BYTES_VARIABLE, str(2 * min_cache_bytes(prepared.config)))
        yield Scheduled(prepared, max_batch_input_tokens=50)


def prompts(seed: int = 3) -> list[list[int]]:
    dice = np.random.default_rng(seed)
    return [dice.integers(0, VOCAB, length).tolist() for length in LENGTHS]


def logits(model: Any, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([tokens])).logits[0].numpy()
    return found


def reference(
    model: Any, prompt: list[int], new: int, sampling: SamplingParams, seed: int = 1, size: int = TOKENS
) -> list[int]:
    """Continue a prompt, reading all of it anew for each token."""
    sample, history = make_sampler(sampling, seed, TOKENS), History(prompt)
    for _ in range(new):
        history.generated.append(sample(logits(model, history.tokens)[-1], history))
    return history.generated


@pytest.fixture(scope="module")
def greedy(model: Any) -> list[list[int]]:
    return [reference(model, prompt, 12, SamplingParams(temperature=0)) for prompt in prompts()]


def test_a_text_is_that_of_transformers_alone(server: Scheduled, greedy: list[list[int]]) -> None:
    for place in range(0, len(LENGTHS), 4):
        (written,) = server.write(Ask(prompts()[place]))
        assert written.tokens == greedy[place]
        assert written.status == "MAXIMUM_LENGTH"


def test_and_among_others(server: Scheduled, greedy: list[list[int]]) -> None:
    assert len(LENGTHS) == 33
    server.scheduler.batch_constructor.kv_cache.reset_prefix_cache()
    assert [written.tokens for written in server.write(*map(Ask, prompts()))] == greedy


def test_texts_that_have_to_wait_for_each_others_pages(narrow: Scheduled, greedy: list[list[int]]) -> None:
    assert [written.tokens for written in narrow.write(*map(Ask, prompts()))] == greedy


def test_a_text_that_gave_its_pages_away_goes_on_as_it_was(narrow: Scheduled, model: Any) -> None:
    """Four texts of three pages each in the end, where there are eight pages."""
    fields: dict[str, Any] = {"temperature": 1.0, "presence_penalty": 1.5, "frequency_penalty": 0.5}
    sampling, before = SamplingParams(**fields), narrow.scheduler.batch_constructor.total_preemption_count
    started = [prompt[:120] for prompt in prompts() if len(prompt) >= 120][:4]
    asked = [Ask(prompt, 150, fields | {"seed": 5}) for prompt in started]
    found = narrow.write(*asked)
    assert narrow.scheduler.batch_constructor.total_preemption_count > before
    assert [one.tokens for one in found] == [reference(model, prompt, 150, sampling, 5) for prompt in started]


def test_a_shared_prompt_is_computed_once_and_nothing_changes(server: Scheduled, model: Any) -> None:
    prompt = prompts(seed=8)[-1]
    expected = reference(model, prompt, 12, SamplingParams(temperature=0))
    first, again = (server.write(Ask(prompt))[0] for _ in range(2))
    assert (first.cached, again.cached) == (0, 256)
    assert first.tokens == again.tokens == expected


SAMPLED: dict[str, Any] = {
    "temperature": 0.9,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.01,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.2,
    "repetition_penalty": 1.2,
}


def test_the_same_seed_writes_the_same_text_alone_and_among_others(server: Scheduled, model: Any) -> None:
    texts = prompts()[:12]
    ours = [reference(model, prompt, 12, SamplingParams(**SAMPLED), seed=seed) for seed, prompt in enumerate(texts, 1)]
    asked = [Ask(prompt, params=SAMPLED | {"seed": seed}) for seed, prompt in enumerate(texts, 1)]
    assert [written.tokens for written in server.write(*asked)] == ours
    assert [server.write(ask)[0].tokens for ask in asked] == ours
    assert len({tuple(text) for text in ours}) == len(ours)


def test_what_max_has_no_field_for(server: Scheduled, model: Any) -> None:
    bias = {77: 100.0, 78: 99.5}
    (written,) = server.write(
        Ask([5, 6], params={"temperature": 1.0}, hint={"max_gpt2": {"seed": 0, "logit_bias": {"77": 100, "78": 99.5}}})
    )
    assert written.tokens == reference(model, [5, 6], 12, SamplingParams(temperature=1.0, logit_bias=bias), seed=0)
    assert set(written.tokens) == {77, 78}


def test_a_text_ends_with_what_ends_texts(server: Scheduled) -> None:
    asked = {"max_gpt2": {"logit_bias": {"299": 1000}}}
    ended, forced = server.write(
        Ask([5, 6], params={"ignore_eos": False}, hint=asked), Ask([5, 6], 3, params={"ignore_eos": True}, hint=asked)
    )
    assert (ended.tokens, ended.status) == ([299], "END_OF_SEQUENCE")
    assert (forced.tokens, forced.status) == ([299] * 3, "MAXIMUM_LENGTH")


def log_softmax(model: Any, tokens: list[int]) -> np.ndarray:
    return torch.log_softmax(torch.from_numpy(logits(model, tokens)).double(), -1).numpy()


def assert_logprobs(model: Any, prompt: list[int], written: Written, echo: bool, asked: int) -> None:
    tokens = prompt + written.tokens
    chances = log_softmax(model, tokens)
    admission = range(1 if echo else len(prompt), len(tokens))
    assert len(written.logprobs) == len(written.tops) == len(admission)
    for place, logprob, top in zip(admission, written.logprobs, written.tops, strict=True):
        row = chances[place - 1]
        assert logprob == pytest.approx(row[tokens[place]], abs=2e-5)
        likeliest = np.argsort(-row)[:asked].tolist()
        assert set(top) == {*likeliest, tokens[place]}
        assert all(value == pytest.approx(row[id_], abs=2e-5) for id_, value in top.items())


@pytest.mark.parametrize("which", ["server", "narrow"])
def test_log_probabilities_of_the_text_and_of_the_prompt(
    which: str, request: pytest.FixtureRequest, model: Any
) -> None:
    """Of texts and prompts, among others that do not ask, some of them with the same prompt; whole, and in pieces."""
    found: Scheduled = request.getfixturevalue(which)
    texts = [prompts()[place] for place in (0, 5, 17, 20, 27, 28, 28, 31)]
    asked = [Ask(prompt, 3, logprobs=2, echo=True) for prompt in texts]
    others = [Ask(prompt, 4, logprobs=1) for prompt in texts[:3]]
    plain = [Ask(texts[-1], 3), Ask(texts[2], 3)]
    answers = found.write(*plain, *asked, *others)
    for prompt, written in zip(texts, answers[2:10], strict=True):
        assert_logprobs(model, prompt, written, echo=True, asked=2)
    for prompt, written in zip(texts, answers[10:], strict=False):
        assert_logprobs(model, prompt, written, echo=False, asked=1)
    assert not answers[0].logprobs


def test_a_prompt_that_fills_the_context_can_be_scored(server: Scheduled, model: Any) -> None:
    prompt = np.random.default_rng(4).integers(0, VOCAB, CHANGES["n_positions"]).tolist()
    (written,) = server.write(Ask(prompt, 1, logprobs=1, echo=True))
    chances = log_softmax(model, prompt)
    expected = [chances[place, prompt[place + 1]] for place in range(len(prompt) - 1)]
    np.testing.assert_allclose(written.logprobs[: len(expected)], expected, rtol=0, atol=2e-5)
    assert len(written.tokens) == 1


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([5, 311], "The prompt id 311 is not in 0 .. 310. Remove it."),
        ([-1], "The prompt id -1 is not in 0 .. 310. Remove it."),
        ([1] * 390, "389"),
    ],
)
def test_prompts_that_would_stop_a_server_are_refused(server: Scheduled, prompt: list[int], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        server.context(Ask(prompt))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask([1], params={"seed": -5}), "seed"),
        (Ask([1], params={"top_p": 0.0}), "top_p"),
        (Ask([1], hint={"max_gpt2": {"logit_bias": {"300": 1}}}), "logit_bias"),
        (Ask([1], hint={"max_gpt2": {"logit_bias": {"one": 1}}}), "one"),
    ],
)
def test_sampling_that_would_stop_a_server_is_refused(server: Scheduled, ask: Ask, words: str) -> None:
    with pytest.raises((InputError, ValueError), match=words):
        server.context(ask)


def test_a_prompt_is_encoded_as_the_engine_encodes_it(server: Scheduled, prepared: Prepared) -> None:
    text = "The lazy dog<|endoftext|> é"
    assert server.context(Ask(text)).tokens.prompt.tolist() == prepared.tokenizer.encode(text)


@pytest.mark.slow
def test_every_flag_of_a_config(tmp_path: Path) -> None:
    changes = FLAGS | {"n_positions": 150, "vocab_size": VOCAB}
    found, model = Scheduled(prepare(write_checkpoint(tmp_path / "flags", **changes))), reference_model(**changes)
    texts = [prompt[:138] for prompt in prompts()[::3]]
    expected = [reference(model, prompt, 12, SamplingParams(temperature=0)) for prompt in texts]
    assert [written.tokens for written in found.write(*map(Ask, texts))] == expected
    assert not math.isclose(model.config.n_inner, 4 * model.config.n_embd)
