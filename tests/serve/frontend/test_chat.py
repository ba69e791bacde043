import json
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.errors import ConfigError
from max_gpt2.serve.frontend.chat import ChatTemplate, find_template
from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.frontend.parsing import check_fields
from max_gpt2.serve.frontend.schema import ChatFields
from max_gpt2.serve.settings import ServedModel
from tests.serve.frontend.servers import Api, api

TEMPLATE = """{% for message in messages %}
{% if message.role == 'developer' %}{{ raise_exception('no developers here') }}{% endif %}
<|endoftext|>{{ message.role }}: {{ message.content }}
{% endfor %}
{% if add_generation_prompt %}assistant:{% endif %}"""
HELLO = [{"role": "system", "content": "Be"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]


@pytest.fixture(scope="module")
def chat(served: ServedModel) -> Any:
    with api(served, template=TEMPLATE) as made:
        yield made


def post(made: Api, **fields: Any) -> dict[str, Any]:
    answer = made.client.post("/v1/chat/completions", json={"model": "tiny", "messages": HELLO} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_chat_without_a_template_is_a_400(shared: Api) -> None:
    error = shared.refused(400, "/v1/chat/completions", model="tiny", messages=HELLO)
    assert error["code"] == "no_chat_template"
    assert "--chat-template FILE" in error["message"]
    assert shared.refused(404, "/v1/chat/completions", model="other", messages=HELLO)["param"] == "model"


def test_chat_is_rendered_and_continued(chat: Api, served: ServedModel) -> None:
    answer = post(chat, max_tokens=4, temperature=0)
    seen = chat.last_seen()
    encode = served.tokenizer.encode
    assert seen["prompt"] == [299, *encode("system: Be\n"), 299, *encode("user: hi\nassistant:")]
    (choice,) = answer["choices"]
    last = seen["prompt"][-1]
    text = served.token_table.text([last + 1 + step for step in range(4)])
    assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["usage"]["completion_tokens"] == 4


def test_default_max_tokens_is_the_remaining_context(chat: Api) -> None:
    post(chat)
    seen = chat.last_seen()
    assert seen["max_tokens"] == 67 - len(seen["prompt"])
    post(chat, max_completion_tokens=3)
    assert chat.last_seen()["max_tokens"] == 3


def test_stream_matches_complete_response(chat: Api) -> None:
    fields = {"model": "tiny", "messages": HELLO, "stream": True, "max_tokens": 3, "temperature": 0, "n": 2}
    with chat.client.stream("POST", "/v1/chat/completions", json=fields) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    for index in (0, 1):
        deltas = [one["delta"] for chunk in chunks for one in chunk["choices"] if one["index"] == index]
        assert deltas[0] == {"role": "assistant", "content": ""}
        complete = post(chat, max_tokens=3, temperature=0)["choices"][0]["message"]["content"]
        assert "".join(delta.get("content", "") for delta in deltas) == complete
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks].count("length") == 2


def test_logprobs_and_top_logprobs(chat: Api, served: ServedModel) -> None:
    (choice,) = post(chat, max_tokens=2, temperature=0, logprobs=True, top_logprobs=1)["choices"]
    first = choice["logprobs"]["content"][0]
    id_ = chat.last_seen()["prompt"][-1] + 1
    assert first["token"] == served.token_table.name(id_)
    assert bytes(first["bytes"]) == served.token_table.raw(id_)
    assert [top["logprob"] for top in first["top_logprobs"]] == [first["logprob"]]
    (choice,) = post(chat, max_tokens=2, logprobs=True)["choices"]
    assert choice["logprobs"]["content"][0]["top_logprobs"] == []


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"messages": []}, "messages", "list must have at least 1 item, not 0. Correct it."),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages", "no developers here"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "it must be"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "5"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "required"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
            "'text'",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": []}]},
            "messages[0].tool_calls",
            "does not exist",
        ),
        ({"messages": [{"role": "user", "content": "word " * 70}]}, "messages", "the context is 67"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "Unicode"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens", "4 differs from max_tokens (3)"),
        ({"max_completion_tokens": 60}, "max_completion_tokens", "exceed the context"),
        ({"top_logprobs": 1}, "top_logprobs", "it requires logprobs: true"),
        ({"prompt": "a"}, "prompt", "does not exist"),
        ({"response_format": {"type": "json_object"}}, "response_format", "constrained output is not supported"),
    ],
)
def test_invalid_chat_is_rejected(chat: Api, fields: dict[str, Any], param: str, message: str) -> None:
    body = json.dumps({"model": "tiny", "messages": HELLO} | fields).encode()
    answer = chat.client.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert message in error["message"]


NAMES = ["refusal", "audio", "annotations", "tool_calls", "function_call", "name", "reasoning", "x"]
TEXTS = st.text("ab é", max_size=8)
NULLS = st.dictionaries(st.sampled_from(NAMES), st.none())
PARTS = st.lists(st.none() | st.builds(lambda text, null: {"type": "text", "text": text} | null, TEXTS, NULLS))
MESSAGES = st.lists(
    st.builds(
        lambda role, content, null: null | {"role": role, "content": content},
        st.sampled_from(["system", "user", "assistant"]),
        TEXTS | PARTS,
        NULLS,
    ),
    min_size=1,
    max_size=4,
)


def without_null(value: Any) -> Any:
    if isinstance(value, list):
        return [without_null(one) for one in value if one is not None]
    if isinstance(value, dict):
        return {name: without_null(one) for name, one in value.items() if one is not None}
    return value


@given(MESSAGES)
def test_null_in_a_message_is_the_same_as_an_absent_field(messages: list[dict[str, Any]]) -> None:
    given = check_fields(ChatFields, {"model": "tiny", "messages": messages})
    absent = check_fields(ChatFields, {"model": "tiny", "messages": without_null(messages)})
    assert [one.text() for one in given.messages] == [one.text() for one in absent.messages]
    assert [(one.role, one.name) for one in given.messages] == [(one.role, one.name) for one in absent.messages]


@given(MESSAGES, st.sampled_from(NAMES[:5]), st.sampled_from([0, "a", [{}], {"a": 1}, False]))
def test_other_values_of_unknown_fields_of_a_message_are_rejected(
    messages: list[dict[str, Any]], name: str, value: Any
) -> None:
    messages[-1][name] = value
    with pytest.raises(RefusedError, match="this field does not exist") as caught:
        check_fields(ChatFields, {"model": "tiny", "messages": messages})
    assert caught.value.param == f"messages[{len(messages) - 1}].{name}"


def test_official_client_continues_its_own_chat_for_ten_turns(served: ServedModel) -> None:
    template = "{% for m in messages[-3:] %}{{ m.content[:3] }}{% endfor %}"
    with (
        api(served, template=template) as made,
        openai.OpenAI(base_url=f"http://127.0.0.1:{made.port}/v1", api_key="none") as client,
    ):
        messages: list[Any] = []
        for turn in range(10):
            messages.append({"role": "user", "content": f"turn {turn}"})
            answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=3, temperature=0)
            messages.append(answer.choices[0].message)
        assert messages[1].refusal is None
        assert len(made.worker.seen) == 10


def test_response_format_text_is_accepted(chat: Api) -> None:
    post(chat, response_format={"type": "text"}, max_tokens=1, tools=None)


def test_unusable_template_is_a_config_error(served: ServedModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.jinja is not a valid Jinja template"):
        ChatTemplate("{% if %}", served.tokenizer, "x.jinja")
    with pytest.raises(ConfigError, match="cannot be read"):
        find_template(tmp_path / "nothing", None)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        find_template(tmp_path / "bytes", None)


def test_file_takes_precedence_over_template_of_checkpoint(tmp_path: Path) -> None:
    assert find_template(None, None) is None
    assert find_template(None, tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text("not json")
    assert find_template(None, tmp_path) is None
    config.write_text(json.dumps({"chat_template": "A"}))
    assert find_template(None, tmp_path) == ("A", f"chat_template in {config}")
    (tmp_path / "chat_template.jinja").write_text("B")
    assert find_template(None, tmp_path) == ("B", str(tmp_path / "chat_template.jinja"))
    (tmp_path / "mine").write_text("C")
    assert find_template(tmp_path / "mine", tmp_path) == ("C", str(tmp_path / "mine"))
