"""One server of the checkpoint that ships, and the clients that people have."""

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
from tests.serve.frontend.real import RealServer, real_server
from tests.serve.frontend.soak import soak
from tests.serve.frontend.tree import memory

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


def test_the_curl_that_it_shows_works(real: RealServer) -> None:
    assert real.said[1].startswith("curl http://127.0.0.1:")
    done = subprocess.run(real.said[1], shell=True, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 20
    assert shutil.which("curl")


def test_greedy_text_is_the_engines_and_transformers(real: RealServer, ours: GPT2, theirs: Any) -> None:
    for prompt in PROMPTS:
        choice = real.complete(prompt, max_tokens=40, temperature=0)["choices"][0]
        expected = ours.generate(prompt, max_new_tokens=40, temperature=0)
        ids = torch.tensor([ours.tokenizer.encode(prompt)])
        reference = theirs.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        assert choice["text"] == expected.text == ours.tokenizer.decode(reference.tolist())
        assert choice["finish_reason"] == expected.finish_reason


def test_the_same_text_alone_and_among_others(real: RealServer, ours: GPT2) -> None:
    options: list[dict[str, Any]] = [
        {"temperature": 0},
        {"seed": 0, "temperature": 1},
        {"seed": 7, "temperature": 0.8, "top_p": 0.9},
        {"seed": 8, "temperature": 1.2, "top_k": 50, "min_p": 0.01},
        {"seed": 9, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": -0.5},
        {"temperature": 0, "logit_bias": {"257": -100, "12": 3.5}},
    ]
    asked = [(prompt, one) for prompt in PROMPTS[:4] for one in options]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        together = list(pool.map(lambda one: real.complete(one[0], max_tokens=30, **one[1]), asked))
    for (prompt, one), answer in zip(asked, together, strict=True):
        bias = {int(id_): value for id_, value in one.get("logit_bias", {}).items()}
        options_of_ours = {"temperature": 1.0} | one | ({"logit_bias": bias} if bias else {})
        expected = ours.generate(prompt, max_new_tokens=30, **options_of_ours)
        assert answer["choices"][0]["text"] == expected.text, one


def test_n_has_the_seeds_of_the_engine(real: RealServer, ours: GPT2) -> None:
    answer = real.complete("It was", max_tokens=12, seed=3, temperature=1, n=3)
    expected = ours.generate("It was", n=3, max_new_tokens=12, seed=3, temperature=1.0)
    assert [choice["text"] for choice in answer["choices"]] == [one.text for one in expected]


def test_lm_evaluation_harness(real: RealServer, theirs: GPT2LMHeadModel) -> None:
    """The request and the reading of the answer are those of its `local-completions`."""
    dice = random.Random(0)
    contexts = [[dice.randrange(1, 2000) for _ in range(size)] for size in (1, 5, 60, 250)]
    continuations = [[dice.randrange(1, 2000) for _ in range(size)] for size in (3, 1, 20, 6)]
    rows = [context + more for context, more in zip(contexts, continuations, strict=True)]
    with torch.no_grad():
        for number in (0, 2):  # two that the model itself would write
            ids = rows[number]
            for place in range(len(contexts[number]), len(ids)):
                ids[place] = int(theirs(torch.tensor([ids[:place]])).logits[0, -1].argmax())
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


def test_tokens_that_are_parts_of_characters_have_names_of_their_own(real: RealServer) -> None:
    texts = TokenTable(open_model(DEMO).tokenizer)
    ids = [id_ for id_ in range(300) if texts.name(id_).startswith("bytes:")][:40]
    (choice,) = real.complete(ids, max_tokens=1, logprobs=5, echo=True)["choices"]
    assert choice["logprobs"]["tokens"][:-1] == [texts.name(id_) for id_ in ids]
    columns = [choice["logprobs"][key][1:] for key in ("tokens", "token_logprobs", "top_logprobs")]
    for name, value, top in zip(*columns, strict=True):
        assert len(top) in (5, 6)
        assert top[name] == value


def test_the_openai_client(client: openai.OpenAI, real: RealServer) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    whole = client.completions.create(model="demo", prompt="It was", max_tokens=12, temperature=0, logprobs=2)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.choices[0].logprobs is not None
    assert "".join(whole.choices[0].logprobs.tokens or []) == whole.choices[0].text
    stream = client.completions.create(
        model="demo", prompt="It was", max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    pieces = list(stream)
    assert "".join(choice.text for piece in pieces for choice in piece.choices) == whole.choices[0].text
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 12
    with pytest.raises(openai.NotFoundError, match="The model 'gpt-4' is not served here"):
        client.completions.create(model="gpt-4", prompt="a")
    with pytest.raises(openai.BadRequestError, match="temperature: it should be less than") as refused:
        client.completions.create(model="demo", prompt="a", temperature=3)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="--chat-template FILE"):
        client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "a"}])


def test_the_metrics_of_the_worker_are_there(real: RealServer) -> None:
    page = httpx.get(f"{real.url}/metrics").text
    names = (
        "maxserve_batch_size",
        "maxserve_cache",
        "maxserve_time_to_first_token",
        "max_gpt2_completion_tokens_total",
    )
    assert [name for name in names if name not in page] == []


def test_hostile_requests(real: RealServer) -> None:
    attack(real, 60, 5)
    before = memory(real.process.pid)
    found = attack(real, 300, 6)
    assert found.wrong == []
    assert memory(real.process.pid) < 1.1 * before
    health = real.health()  # Once: the seconds in it go on.
    assert (health["status"], health["restarts"]) == ("ready", 0)
    real.complete("It was", max_tokens=3)


def test_a_worker_that_is_killed_again_and_again(real: RealServer) -> None:
    """The last test of this server: it ends with another worker than it began with."""
    soaked = soak(real, 20, 2)
    assert soaked.wrong == []
    assert soaked.kills == 2
    assert soaked.counts["200"] > 10
    assert soaked.counts["503"] > 0
