import json
from typing import Any

import httpx
import pytest

from max_gpt2.serve.settings import ServedModel
from tests.serve.frontend.fake_worker import FakeWorker
from tests.serve.frontend.servers import Api


def after(served: ServedModel, prompt: str, count: int) -> str:
    """Return the fake worker's output at temperature 0: the ids that follow the last one of the prompt."""
    last = served.tokenizer.encode(prompt)[-1]
    return served.token_table.text((last + 1 + step) % 300 for step in range(count))


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def stream(api: Api, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "tiny", "prompt": "ab", "stream": True} | fields
    with api.client.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return events(answer)


def joined_text(chunks: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == index)


def test_completion_has_the_documented_form(shared: Api, served: ServedModel) -> None:
    answer = shared.complete("ab", max_tokens=5, temperature=0)
    (choice,) = answer["choices"]
    assert choice == {"index": 0, "text": after(served, "ab", 5), "logprobs": None, "finish_reason": "length"}
    prompt = served.tokenizer.encode("ab")
    usage = {"prompt_tokens": len(prompt), "completion_tokens": 5, "total_tokens": len(prompt) + 5}
    assert answer["usage"] == usage
    assert answer["object"] == "text_completion"
    assert answer["model"] == "tiny"
    assert answer["id"].startswith("cmpl-")
    seen = shared.last_seen()
    assert seen["prompt"] == prompt
    assert seen["model"] == "worker-model"


def test_defaults_are_those_of_openai(shared: Api) -> None:
    shared.complete("ab")
    seen = shared.last_seen()
    expected = {
        "max_tokens": 16,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": False,
        "stream": False,
    }
    assert {name: seen[name] for name in expected} == expected
    assert not {"logprobs", "echo", "stop", "n", "best_of", "logit_bias"} & seen.keys()


def test_every_field_reaches_the_worker(shared: Api) -> None:
    fields: dict[str, Any] = {
        "max_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 7,
        "min_p": 0.125,
        "presence_penalty": -1.5,
        "frequency_penalty": 0.75,
        "repetition_penalty": 1.25,
        "seed": 12345,
        "ignore_eos": True,
    }
    shared.complete("ab", logit_bias={"007": -100, "5": 2.5}, user="somebody", **fields)
    seen = shared.last_seen()
    assert {name: seen[name] for name in fields} == fields
    assert seen["dkv_cache_hint"] == {
        "max_gpt2": {"seed": 12345, "logit_bias": {"7": -100.0, "5": 2.5}, "bursts": True}
    }


@pytest.mark.parametrize("fields", [{"stream": True}, {"stop": "x"}, {"stop_ids": [3]}], ids=str)
def test_tokens_that_are_read_at_once_do_not_come_in_bursts(shared: Api, fields: dict[str, Any]) -> None:
    if "stream" in fields:
        stream(shared, max_tokens=1)
    else:
        shared.complete("ab", max_tokens=1, **fields)
    assert shared.last_seen()["dkv_cache_hint"]["max_gpt2"]["bursts"] is False


@pytest.mark.parametrize(("seed", "engine"), [(0, 0), (-1, 2**63 - 1), (2**63 - 1, 2**63 - 1), (7, 7)])
def test_any_64_bit_seed_is_valid(shared: Api, seed: int, engine: int) -> None:
    shared.complete("ab", seed=seed, max_tokens=1)
    seen = shared.last_seen()
    assert seen["seed"] > 0
    assert seen["dkv_cache_hint"]["max_gpt2"]["seed"] == engine


def test_top_p_0_is_greedy_and_top_k_0_is_off(shared: Api) -> None:
    shared.complete("ab", top_p=0, top_k=0, max_tokens=1)
    assert (shared.last_seen()["temperature"], shared.last_seen()["top_p"], shared.last_seen()["top_k"]) == (0, 1, -1)


def test_whole_float_is_an_integer(shared: Api) -> None:
    body = b'{"model": "tiny", "prompt": [5.0, 6e0], "max_tokens": 2.0, "temperature": 0.0}'
    answer = shared.client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert (shared.last_seen()["prompt"], shared.last_seen()["max_tokens"]) == ([5, 6], 2)


def test_null_selects_the_default(shared: Api) -> None:
    names = "max_tokens temperature top_p top_k min_p n best_of stream stream_options stop presence_penalty suffix"
    names += " frequency_penalty repetition_penalty logit_bias seed user ignore_eos logprobs echo"
    answer = shared.complete("ab", **dict.fromkeys(names.split()))
    assert answer["usage"]["completion_tokens"] == 16


def test_prompt_is_text_or_ids_or_a_list_of_either(shared: Api, served: ServedModel) -> None:
    def sent(prompt: Any) -> list[list[int]]:
        before = len(shared.worker.seen)
        answer = shared.complete(prompt, max_tokens=1)
        assert [choice["index"] for choice in answer["choices"]] == list(range(len(answer["choices"])))
        return sorted(one["prompt"] for one in shared.worker.seen[before:])

    encode = served.tokenizer.encode
    assert sent("ab") == [encode("ab")]
    assert sent(["ab", "the dog"]) == sorted([encode("ab"), encode("the dog")])
    assert sent([5, 6, 310]) == [[5, 6, 310]]
    assert sent([[5], [6, 7]]) == [[5], [6, 7]]
    assert sent(None) == [[299]]
    assert sent("<|endoftext|>") == [encode("<|endoftext|>")]
    assert len(encode("<|endoftext|>")) > 1


def test_missing_prompt_starts_a_document(shared: Api) -> None:
    answer = shared.client.post("/v1/completions", json={"model": "tiny", "max_tokens": 2})
    assert answer.status_code == 200
    assert shared.last_seen()["prompt"] == [299]


def test_choices_are_ordered_by_prompt_and_seed(shared: Api, served: ServedModel) -> None:
    answer = shared.complete(["ab", "c"], n=2, max_tokens=2, seed=4, temperature=1)
    texts = [choice["text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]

    def counted(prompt: str, by: int) -> str:
        last = served.tokenizer.encode(prompt)[-1]
        return served.token_table.text([last + by, last + 2 * by])

    # With an even seed the fake worker counts by one, with an odd one by two.
    assert texts == [counted("ab", 1), counted("ab", 2), counted("c", 1), counted("c", 2)]
    lengths = [len(served.tokenizer.encode(prompt)) for prompt in ("ab", "c")]
    assert answer["usage"] == {
        "prompt_tokens": sum(lengths),
        "completion_tokens": 8,
        "total_tokens": sum(lengths) + 8,
    }


def test_best_of_returns_the_most_likely(shared: Api, served: ServedModel) -> None:
    answer = shared.complete([10], n=1, best_of=3, max_tokens=2, seed=1, temperature=1)
    # In the fake worker's model a larger id is less likely: counting by one (seed 2) is best.
    assert [choice["text"] for choice in answer["choices"]] == [served.token_table.text([11, 12])]
    assert answer["choices"][0]["index"] == 0
    assert answer["choices"][0]["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 6


def test_text_ends_before_stop_string(shared: Api, served: ServedModel) -> None:
    text = shared.complete([40], max_tokens=9, temperature=0)["choices"][0]["text"]
    stop = text[4:6]
    answer = shared.complete([40], max_tokens=9, temperature=0, stop=stop)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (text[:4], "stop")
    assert "stop" not in shared.last_seen()  # MAX's server answers some of its own stops with a 400
    assert shared.last_seen()["stream"] is True
    chunks = stream(shared, prompt=[40], max_tokens=9, temperature=0, stop=["zzz", stop])
    assert joined_text(chunks) == text[:4]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("ids", [[44], [250, 44, 45], [44.0]])
def test_text_ends_before_stop_id(shared: Api, served: ServedModel, ids: list[float]) -> None:
    fields: dict[str, Any] = {"prompt": [40], "max_tokens": 9, "temperature": 0, "stop_ids": ids}
    answer = shared.complete(**fields, logprobs=0)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (served.token_table.text([41, 42, 43]), "stop")
    assert answer["usage"]["completion_tokens"] == 4
    assert len(choice["logprobs"]["tokens"]) == 3
    chunks = stream(shared, **fields)
    assert joined_text(chunks) == choice["text"]
    assert shared.complete(**fields | {"stop_ids": []})["choices"][0]["finish_reason"] == "length"


def test_special_token_is_a_stop_string(shared: Api, served: ServedModel) -> None:
    fields: dict[str, Any] = {"max_tokens": 9, "temperature": 0, "ignore_eos": True, "stop": "<|endoftext|>"}
    answer = shared.complete([296], **fields)
    assert answer["choices"][0]["text"] == served.token_table.text([297, 298])
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 3


def test_end_of_text_token_ends_the_sequence(shared: Api, served: ServedModel) -> None:
    answer = shared.complete([296], max_tokens=9, temperature=0)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (served.token_table.text([297, 298]), "stop")
    assert answer["usage"]["completion_tokens"] == 3
    answer = shared.complete([296], max_tokens=5, temperature=0, ignore_eos=True)
    assert answer["choices"][0]["text"] == served.token_table.text([297, 298, 0, 1])
    assert answer["choices"][0]["finish_reason"] == "length"


def test_max_tokens_0_does_not_use_the_worker(shared: Api) -> None:
    before = len(shared.worker.seen)
    answer = shared.complete("ab", max_tokens=0)
    assert answer["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]
    answer = shared.complete("ab", max_tokens=0, echo=True)
    assert answer["choices"][0]["text"] == "ab"
    assert answer["usage"]["completion_tokens"] == 0
    assert len(shared.worker.seen) == before


def test_echo_prepends_the_prompt(shared: Api, served: ServedModel) -> None:
    answer = shared.complete("ab", max_tokens=3, temperature=0, echo=True)
    assert answer["choices"][0]["text"] == "ab" + after(served, "ab", 3)
    answer = shared.complete([299, 10], max_tokens=1, temperature=0, echo=True)
    assert answer["choices"][0]["text"] == "<|endoftext|>" + served.token_table.text([10, 11])
    chunks = stream(shared, max_tokens=3, temperature=0, echo=True)
    assert joined_text(chunks) == "ab" + after(served, "ab", 3)
    assert "echo" not in shared.last_seen()


def test_logprobs_have_tokens_values_and_offsets(shared: Api, served: ServedModel) -> None:
    (choice,) = shared.complete([40], max_tokens=3, temperature=0, logprobs=2)["choices"]
    logprobs = choice["logprobs"]
    assert logprobs["tokens"] == [served.token_table.name(id_) for id_ in (41, 42, 43)]
    assert logprobs["token_logprobs"] == [FakeWorker.logprob(id_) for id_ in (41, 42, 43)]
    assert logprobs["top_logprobs"][0] == {
        "t41": FakeWorker.logprob(41),
        "other": FakeWorker.logprob(41) - 1,
        served.token_table.name(41): FakeWorker.logprob(41),
    }
    assert logprobs["text_offset"] == [0, 1, 2]
    (choice,) = shared.complete([40], max_tokens=3, temperature=0, logprobs=0)["choices"]
    assert choice["logprobs"]["token_logprobs"] == logprobs["token_logprobs"]
    assert choice["logprobs"]["top_logprobs"] is None
    assert shared.last_seen()["logprobs"] == 1


def test_logprobs_end_with_the_text(shared: Api) -> None:
    (choice,) = shared.complete([40], max_tokens=9, temperature=0, logprobs=1, stop="0")["choices"]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    (choice,) = shared.complete([296], max_tokens=9, temperature=0, logprobs=1)["choices"]
    assert choice["logprobs"]["tokens"][-1] == "<|endoftext|>"
    assert "".join(choice["logprobs"]["tokens"][:-1]) == choice["text"]


def test_echo_with_logprobs_serves_lm_evaluation_harness(shared: Api, served: ServedModel) -> None:
    prompt = [40, 41, 90]
    fields = {"max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234}
    (choice,) = shared.complete([prompt], **fields)["choices"]
    values, tops = choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]
    assert values == [None, *(FakeWorker.logprob(id_) for id_ in (41, 90, 91))]
    assert tops[0] is None
    assert all(max(top.values()) == value for top, value in zip(tops[1:], values[1:], strict=True))
    assert choice["text"] == served.token_table.text([*prompt, 91])
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 2 + len(served.token_table.text([90]))]
    fields["max_tokens"] = 0
    (choice,) = shared.complete([prompt], **fields)["choices"]
    assert choice["logprobs"]["token_logprobs"] == values[:-1]
    assert choice["text"] == served.token_table.text(prompt)


def test_prompt_that_fills_the_context_can_be_scored(shared: Api) -> None:
    fields: dict[str, Any] = {"model": "tiny", "prompt": [5] * 67, "temperature": 0, "max_tokens": 1}
    error = shared.refused(400, **fields)
    assert error["code"] == "context_length_exceeded"
    (choice,) = shared.complete([5] * 67, max_tokens=1, logprobs=1, echo=True)["choices"]
    assert len(choice["logprobs"]["token_logprobs"]) == 68


def test_stream_ends_with_usage_if_requested(shared: Api, served: ServedModel) -> None:
    chunks = stream(shared, max_tokens=6, temperature=0, stream_options={"include_usage": True})
    assert joined_text(chunks) == after(served, "ab", 6)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len(chunks) == 7
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 6
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * 5 + ["length"]
    assert "usage" not in stream(shared, max_tokens=1)[-1]


def test_stream_of_several_choices_matches_complete_response(shared: Api, served: ServedModel) -> None:
    fields: dict[str, Any] = {"prompt": [[10], [60]], "n": 2, "max_tokens": 4, "seed": 2, "temperature": 1}
    chunks = stream(shared, **fields)
    complete = shared.complete(**fields)
    assert [joined_text(chunks, index) for index in range(4)] == [choice["text"] for choice in complete["choices"]]
    finished = [choice["index"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert sorted(finished) == [0, 1, 2, 3]


def test_streamed_logprobs_match_complete_response(shared: Api) -> None:
    fields: dict[str, Any] = {"prompt": [40], "max_tokens": 5, "temperature": 0, "logprobs": 1, "echo": True}
    chunks = stream(shared, **fields)
    complete = shared.complete(**fields)["choices"][0]["logprobs"]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        joined = [one for chunk in chunks for choice in chunk["choices"] for one in choice["logprobs"][name]]
        assert joined == complete[name]
