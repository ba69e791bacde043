"""A server of the demo checkpoint with the worker, and the clients that users have."""

import concurrent.futures
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from transformers import GPT2LMHeadModel

from max_gpt2.generation import open_model
from max_gpt2.gpt2 import GPT2
from max_gpt2.tokenizer.detokenizer import TokenTable
from tests.serve.frontend.hostile import attack
from tests.serve.frontend.process_tree import memory
from tests.serve.frontend.real_server import RealServer, real_server
from tests.serve.frontend.soak import soak

pytestmark = [pytest.mark.slow, pytest.mark.server]

DEMO = Path(__file__).parents[2] / "src" / "max_gpt2" / "demo"
PROMPTS = [
    "It was",
    "She",
    "Mr. Darcy said",
    "The house was very " * 30,
    "1",
    " é🙂",
    'Emma\n\n"I',
    "a b c d e f g h i",
]


@pytest.fixture(scope="module")
def real() -> Iterator[RealServer]:
    with real_server() as server:
        yield server


@pytest.fixture(scope="module")
def theirs() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def ours() -> GPT2:
    return GPT2.from_pretrained("demo")


@pytest.fixture(scope="module")
def client(real: RealServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", timeout=120) as made:
        yield made


def test_printed_curl_command_works(real: RealServer) -> None:
    assert real.output[1].startswith("curl http://127.0.0.1:")
    done = subprocess.run(real.output[1], shell=True, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 20
    assert shutil.which("curl")


def test_greedy_output_matches_engine_and_transformers(real: RealServer, ours: GPT2, theirs: Any) -> None:
    for prompt in PROMPTS:
        choice = real.complete(prompt, max_tokens=40, temperature=0)["choices"][0]
        expected = ours.generate(prompt, max_new_tokens=40, temperature=0)
        ids = torch.tensor([ours.tokenizer.encode(prompt)])
        reference = theirs.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        assert choice["text"] == expected.text == ours.tokenizer.decode(reference.tolist())
        assert choice["finish_reason"] == expected.finish_reason


def test_concurrent_output_matches_single(real: RealServer, ours: GPT2) -> None:
    options: list[dict[str, Any]] = [
        {"temperature": 0},
        {"seed": 0, "temperature": 1},
        {"seed": 7, "temperature": 0.8, "top_p": 0.9},
        {"seed": 8, "temperature": 1.2, "top_k": 50, "min_p": 0.01},
        {"seed": 9, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": -0.5},
        {"temperature": 0, "logit_bias": {"257": -100, "12": 3.5}},
    ]
    requests = [(prompt, one) for prompt in PROMPTS[:4] for one in options]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda one: real.complete(one[0], max_tokens=30, **one[1]), requests))
    for (prompt, one), answer in zip(requests, answers, strict=True):
        bias = {int(id_): value for id_, value in one.get("logit_bias", {}).items()}
        engine_options = {"temperature": 1.0} | one | ({"logit_bias": bias} if bias else {})
        expected = ours.generate(prompt, max_new_tokens=30, **engine_options)
        assert answer["choices"][0]["text"] == expected.text, one


def test_choices_of_n_match_engine(real: RealServer, ours: GPT2) -> None:
    answer = real.complete("It was", max_tokens=12, seed=3, temperature=1, n=3)
    expected = ours.generate("It was", n=3, max_new_tokens=12, seed=3, temperature=1.0)
    assert [choice["text"] for choice in answer["choices"]] == [one.text for one in expected]


def test_lm_evaluation_harness_gets_logprobs_of_transformers(real: RealServer, theirs: GPT2LMHeadModel) -> None:
    """Send the request of the harness' `local-completions` and read the response in the same way."""
    rng = random.Random(0)
    contexts = [[rng.randrange(1, 2000) for _ in range(size)] for size in (1, 5, 60, 250)]
    continuations = [[rng.randrange(1, 2000) for _ in range(size)] for size in (3, 1, 20, 6)]
    rows = [context + more for context, more in zip(contexts, continuations, strict=True)]
    with torch.no_grad():
        for number in (0, 2):  # replace two continuations by greedy ones
            ids = rows[number]
            for position in range(len(contexts[number]), len(ids)):
                ids[position] = int(theirs(torch.tensor([ids[:position]])).logits[0, -1].argmax())
    answer = real.complete(rows, max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234)
    for row, context, choice in zip(
        rows, contexts, sorted(answer["choices"], key=lambda one: one["index"]), strict=True
    ):
        logprobs = choice["logprobs"]
        assert len(logprobs["tokens"]) == len(row) + 1
        values, tops = (logprobs[name][len(context) : -1] for name in ("token_logprobs", "top_logprobs"))
        is_greedy = all(value == max(top.values()) for value, top in zip(values, tops, strict=True))
        with torch.no_grad():
            rows_of_logits = theirs(torch.tensor([row])).logits[0, len(context) - 1 : -1].log_softmax(-1)
        expected = rows_of_logits[range(len(values)), row[len(context) :]]
        np.testing.assert_allclose(values, expected.numpy(), atol=1e-4)
        assert is_greedy == bool((rows_of_logits.argmax(-1) == torch.tensor(row[len(context) :])).all())


def test_tokens_of_partial_characters_have_unique_names(real: RealServer) -> None:
    table = TokenTable(open_model(DEMO).tokenizer)
    ids = [id_ for id_ in range(300) if table.name(id_).startswith("bytes:")][:40]
    (choice,) = real.complete(ids, max_tokens=1, logprobs=5, echo=True)["choices"]
    assert choice["logprobs"]["tokens"][:-1] == [table.name(id_) for id_ in ids]
    columns = [choice["logprobs"][key][1:] for key in ("tokens", "token_logprobs", "top_logprobs")]
    for name, value, top in zip(*columns, strict=True):
        assert len(top) in (5, 6)
        assert top[name] == value


def test_openai_client_works(client: openai.OpenAI, real: RealServer) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    complete = client.completions.create(model="demo", prompt="It was", max_tokens=12, temperature=0, logprobs=2)
    assert complete.usage is not None
    assert complete.usage.completion_tokens == 12
    assert complete.choices[0].logprobs is not None
    assert "".join(complete.choices[0].logprobs.tokens or []) == complete.choices[0].text
    stream = client.completions.create(
        model="demo", prompt="It was", max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == complete.choices[0].text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    with pytest.raises(openai.NotFoundError, match="The model 'gpt-4' is not served here"):
        client.completions.create(model="gpt-4", prompt="a")
    with pytest.raises(openai.BadRequestError, match="temperature: it must be less than") as refused:
        client.completions.create(model="demo", prompt="a", temperature=3)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="--chat-template FILE"):
        client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "a"}])


def test_metrics_include_those_of_the_worker(real: RealServer) -> None:
    page = httpx.get(f"{real.url}/metrics").text
    names = (
        "maxserve_batch_size",
        "maxserve_cache",
        "maxserve_time_to_first_token",
        "max_gpt2_completion_tokens_total",
    )
    assert [name for name in names if name not in page] == []


def test_server_withstands_hostile_requests(real: RealServer) -> None:
    attack(real, 60, 5)
    before = memory(real.process.pid)
    results = attack(real, 300, 6)
    assert results.failures == []
    assert memory(real.process.pid) < 1.1 * before
    health = real.health()
    assert (health["status"], health["restarts"]) == ("ready", 0)
    real.complete("It was", max_tokens=3)


def test_output_is_unchanged_after_the_worker_is_killed(real: RealServer) -> None:
    """Run last: the kills replace the worker that the other tests use."""
    results = soak(real, 20, 2)
    assert results.failures == []
    assert results.kills == 2
    assert results.counts["200"] > 10
    assert results.counts["503"] > 0
