"""Sequences that MAX's scheduler batches, with a paged cache, compared with transformers."""

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
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.generation.logits import History, make_sampler
from max_gpt2.generation.params import SamplingParams
from max_gpt2.model.compile_cache import load_or_compile_scoring
from max_gpt2.model.scoring import Window
from max_gpt2.serve.prepare import Prepared, prepare
from max_gpt2.serve.worker.settings import CACHE_BYTES_VARIABLE, min_cache_bytes
from tests.serve.worker.scheduled import Output, Request, Scheduled

#: Four pages, the last one partial.
CHANGES = {"n_positions": 389}
VOCAB, TOKENS = 311, 300
#: Prompt lengths around the boundaries of pages, of the blocks of attention, and of the context.
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
    """A scheduler with a cache for two sequences of full context, and prompts in chunks of 50 tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_BYTES_VARIABLE, str(2 * min_cache_bytes(prepared.config)))
        yield Scheduled(prepared, max_batch_input_tokens=50)


def prompts(seed: int = 3) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCAB, length).tolist() for length in LENGTHS]


def logits(model: Any, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([tokens])).logits[0].numpy()
    return found


def reference(
    model: Any, prompt: list[int], new: int, sampling: SamplingParams, seed: int = 1, size: int = TOKENS
) -> list[int]:
    """Continue a prompt with transformers, without a cache."""
    sample, history = make_sampler(sampling, seed, TOKENS), History(prompt)
    for _ in range(new):
        history.generated.append(sample(logits(model, history.tokens)[-1], history))
    return history.generated


@pytest.fixture(scope="module")
def greedy(model: Any) -> list[list[int]]:
    return [reference(model, prompt, 12, SamplingParams(temperature=0)) for prompt in prompts()]


def test_single_output_matches_transformers(server: Scheduled, greedy: list[list[int]]) -> None:
    for index in range(0, len(LENGTHS), 4):
        (output,) = server.generate(Request(prompts()[index]))
        assert output.tokens == greedy[index]
        assert output.status == "MAXIMUM_LENGTH"


def test_batched_output_matches_transformers(server: Scheduled, greedy: list[list[int]]) -> None:
    assert len(LENGTHS) == 33
    server.scheduler.batch_constructor.kv_cache.reset_prefix_cache()
    assert [output.tokens for output in server.generate(*map(Request, prompts()))] == greedy


def test_output_in_a_small_cache_matches_transformers(narrow: Scheduled, greedy: list[list[int]]) -> None:
    assert [output.tokens for output in narrow.generate(*map(Request, prompts()))] == greedy


def test_preempted_sequence_continues_with_the_same_output(narrow: Scheduled, model: Any) -> None:
    """Four sequences grow to three pages each, but the cache has eight."""
    fields: dict[str, Any] = {"temperature": 1.0, "presence_penalty": 1.5, "frequency_penalty": 0.5}
    sampling, before = SamplingParams(**fields), narrow.scheduler.batch_constructor.total_preemption_count
    started = [prompt[:120] for prompt in prompts() if len(prompt) >= 120][:4]
    outputs = narrow.generate(*(Request(prompt, 150, fields | {"seed": 5}) for prompt in started))
    assert narrow.scheduler.batch_constructor.total_preemption_count > before
    assert [one.tokens for one in outputs] == [reference(model, prompt, 150, sampling, 5) for prompt in started]


def test_shared_prefix_is_computed_once(server: Scheduled, model: Any) -> None:
    prompt = prompts(seed=8)[-1]
    expected = reference(model, prompt, 12, SamplingParams(temperature=0))
    first, second = (server.generate(Request(prompt))[0] for _ in range(2))
    assert (first.cached, second.cached) == (0, 256)
    assert first.tokens == second.tokens == expected


SAMPLED: dict[str, Any] = {
    "temperature": 0.9,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.01,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.2,
    "repetition_penalty": 1.2,
}


def test_sampled_batched_output_matches_single(server: Scheduled, model: Any) -> None:
    seeded = list(enumerate(prompts()[:12], 1))
    expected = [reference(model, prompt, 12, SamplingParams(**SAMPLED), seed=seed) for seed, prompt in seeded]
    requests = [Request(prompt, params=SAMPLED | {"seed": seed}) for seed, prompt in seeded]
    assert [output.tokens for output in server.generate(*requests)] == expected
    assert [server.generate(request)[0].tokens for request in requests] == expected
    assert len({tuple(tokens) for tokens in expected}) == len(expected)


def test_hint_sets_logit_bias_and_seed_0(server: Scheduled, model: Any) -> None:
    bias = {77: 100.0, 78: 99.5}
    hint = {"max_gpt2": {"seed": 0, "logit_bias": {"77": 100, "78": 99.5}}}
    (output,) = server.generate(Request([5, 6], params={"temperature": 1.0}, hint=hint))
    assert output.tokens == reference(model, [5, 6], 12, SamplingParams(temperature=1.0, logit_bias=bias), seed=0)
    assert set(output.tokens) == {77, 78}


def test_end_of_text_token_ends_the_sequence_unless_ignored(server: Scheduled) -> None:
    hint = {"max_gpt2": {"logit_bias": {"299": 1000}}}
    ended, forced = server.generate(
        Request([5, 6], params={"ignore_eos": False}, hint=hint),
        Request([5, 6], 3, params={"ignore_eos": True}, hint=hint),
    )
    assert (ended.tokens, ended.status) == ([299], "END_OF_SEQUENCE")
    assert (forced.tokens, forced.status) == ([299] * 3, "MAXIMUM_LENGTH")


#: The hint of a request whose tokens nobody reads as they are generated.
BURSTS = {"max_gpt2": {"bursts": True}}


@pytest.fixture
def returned(server: Scheduled, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The numbers of tokens of the sequences of every batch that the pipeline returns, in order."""
    found: list[list[int]] = []
    execute = server.pipeline.execute

    def execute_and_record(inputs: Any) -> Any:
        outputs = execute(inputs)
        found.append([len(output.tokens) for output in outputs.values()])
        return outputs

    monkeypatch.setattr(server.pipeline, "execute", execute_and_record)
    monkeypatch.setattr("max_gpt2.serve.worker.pipeline._BURST_S", 3600)
    return found


def test_burst_returns_the_tokens_of_single_steps(server: Scheduled, returned: list[list[int]], model: Any) -> None:
    """The first token of a prompt is returned at once, later ones as far as the page of the cache reaches."""
    sampling, prompt = SamplingParams(temperature=1.0, presence_penalty=1.5), prompts(seed=11)[-1][:120]
    fields = {"temperature": 1.0, "presence_penalty": 1.5, "seed": 5}
    (output,) = server.generate(Request(prompt, 150, fields, BURSTS, logprobs=2))
    assert output.tokens == reference(model, prompt, 150, sampling, 5)
    assert_logprobs(model, prompt, output, echo=False, count=2)
    assert returned == [[1], [8], [128], [13]]


def test_burst_of_a_batch_ends_with_its_first_sequence(
    server: Scheduled, returned: list[list[int]], model: Any
) -> None:
    chosen = [prompt[:40] for prompt in prompts(seed=12)[-2:]]
    outputs = server.generate(Request(chosen[0], 5, hint=BURSTS), Request(chosen[1], 9, hint=BURSTS))
    for prompt, output, new in zip(chosen, outputs, (5, 9), strict=True):
        assert output.tokens == reference(model, prompt, new, SamplingParams(temperature=0))
    assert returned == [[1, 1], [4, 4], [4]]


def test_burst_ends_for_a_sequence_that_is_read_as_it_is_generated(
    server: Scheduled, returned: list[list[int]]
) -> None:
    server.generate(Request([5, 6], 3), Request([7, 8], 6, hint=BURSTS))
    assert returned == [[1, 1]] * 3 + [[3]]


def test_burst_ends_for_an_arriving_request(
    server: Scheduled, returned: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = server.pipeline._step, iter(range(100))

    def step_and_submit(*arguments: Any) -> None:
        step(*arguments)
        if next(steps) == 4:
            server.submit(Request([9], 1))

    monkeypatch.setattr(server.pipeline, "_step", step_and_submit)
    server.generate(Request([5, 6], 12, hint=BURSTS))
    assert returned == [[1], [4], [1], [7]]


def test_burst_returns_after_its_time(
    server: Scheduled, returned: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_gpt2.serve.worker.pipeline._BURST_S", 0)
    server.generate(Request([5, 6], 3, hint=BURSTS))
    assert returned == [[1]] * 3


def test_bursts_in_a_small_cache_match_transformers(narrow: Scheduled, greedy: list[list[int]]) -> None:
    requests = [Request(prompt, hint=BURSTS) for prompt in prompts()]
    assert [output.tokens for output in narrow.generate(*requests)] == greedy


def log_softmax(model: Any, tokens: list[int]) -> np.ndarray:
    return torch.log_softmax(torch.from_numpy(logits(model, tokens)).double(), -1).numpy()


def assert_logprobs(model: Any, prompt: list[int], output: Output, echo: bool, count: int) -> None:
    """Compare the logprobs of an output, and its `count` most likely tokens, with those of transformers."""
    tokens = prompt + output.tokens
    logprobs = log_softmax(model, tokens)
    positions = range(1 if echo else len(prompt), len(tokens))
    assert len(output.logprobs) == len(output.tops) == len(positions)
    for position, logprob, top in zip(positions, output.logprobs, output.tops, strict=True):
        row = logprobs[position - 1]
        assert logprob == pytest.approx(row[tokens[position]], abs=2e-5)
        most_likely = np.argsort(-row)[:count].tolist()
        assert set(top) == {*most_likely, tokens[position]}
        assert all(value == pytest.approx(row[id_], abs=2e-5) for id_, value in top.items())


@pytest.mark.parametrize("scheduler", ["server", "narrow"])
def test_logprobs_match_transformers(scheduler: str, request: pytest.FixtureRequest, model: Any) -> None:
    """Requests with and without logprobs in one batch, some with the same prompt, some with prompts in chunks."""
    scheduled: Scheduled = request.getfixturevalue(scheduler)
    chosen = [prompts()[index] for index in (0, 5, 17, 20, 27, 28, 28, 31)]
    echoing = [Request(prompt, 3, logprobs=2, echo=True) for prompt in chosen]
    others = [Request(prompt, 4, logprobs=1) for prompt in chosen[:3]]
    plain = [Request(chosen[-1], 3), Request(chosen[2], 3)]
    outputs = scheduled.generate(*plain, *echoing, *others)
    for prompt, output in zip(chosen, outputs[2:10], strict=True):
        assert_logprobs(model, prompt, output, echo=True, count=2)
    for prompt, output in zip(chosen, outputs[10:], strict=False):
        assert_logprobs(model, prompt, output, echo=False, count=1)
    assert not outputs[0].logprobs


def test_echoed_logprobs_are_bitwise_those_of_score(server: Scheduled, narrow: Scheduled, prepared: Prepared) -> None:
    """Whole prompts in one batch, and prompts in chunks that are resumed from the cache."""
    checkpoint = load_checkpoint(prepared.folder)
    scoring = load_or_compile_scoring(checkpoint.config, checkpoint.state_dict)
    chosen = [prompts()[index] for index in (1, 4, 17, 30)]
    windows = [Window(prompt[:-1], prompt[1:]) for prompt in chosen]
    expected = [one.logprobs.tolist() for one in scoring.score(windows, 0, np.zeros(VOCAB, dtype=bool))]
    for scheduled in (server, narrow):
        outputs = scheduled.generate(*(Request(prompt, 1, logprobs=1, echo=True) for prompt in chosen))
        assert [output.logprobs[:-1] for output in outputs] == expected


def test_prompt_that_fills_the_context_can_be_scored(server: Scheduled, model: Any) -> None:
    prompt = np.random.default_rng(4).integers(0, VOCAB, CHANGES["n_positions"]).tolist()
    (output,) = server.generate(Request(prompt, 1, logprobs=1, echo=True))
    logprobs = log_softmax(model, prompt)
    expected = [logprobs[position, prompt[position + 1]] for position in range(len(prompt) - 1)]
    np.testing.assert_allclose(output.logprobs[: len(expected)], expected, rtol=0, atol=2e-5)
    assert len(output.tokens) == 1


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([5, 311], "The prompt id 311 is not in 0 .. 310. Remove it."),
        ([-1], "The prompt id -1 is not in 0 .. 310. Remove it."),
        ([1] * 390, "389"),
    ],
)
def test_invalid_prompt_is_rejected(server: Scheduled, prompt: list[int], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        server.context(Request(prompt))


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (Request([1], params={"seed": -5}), "seed"),
        (Request([1], params={"top_p": 0.0}), "top_p"),
        (Request([1], hint={"max_gpt2": {"logit_bias": {"300": 1}}}), "logit_bias"),
        (Request([1], hint={"max_gpt2": {"logit_bias": {"one": 1}}}), "one"),
    ],
)
def test_invalid_sampling_params_are_rejected(server: Scheduled, invalid: Request, message: str) -> None:
    with pytest.raises((InputError, ValueError), match=message):
        server.context(invalid)


def test_prompt_is_encoded_with_the_tokenizer_of_the_package(server: Scheduled, prepared: Prepared) -> None:
    text = "The lazy dog<|endoftext|> é"
    assert server.context(Request(text)).tokens.prompt.tolist() == prepared.tokenizer.encode(text)


@pytest.mark.slow
def test_every_config_flag_matches_transformers(tmp_path: Path) -> None:
    changes = FLAGS | {"n_positions": 150, "vocab_size": VOCAB}
    scheduled, model = Scheduled(prepare(write_checkpoint(tmp_path / "flags", **changes))), reference_model(**changes)
    chosen = [prompt[:138] for prompt in prompts()[::3]]
    expected = [reference(model, prompt, 12, SamplingParams(temperature=0)) for prompt in chosen]
    assert [output.tokens for output in scheduled.generate(*map(Request, chosen))] == expected
    assert not math.isclose(model.config.n_inner, 4 * model.config.n_embd)
