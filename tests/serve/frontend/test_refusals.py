import json
import socket
import time
from typing import Any

import httpx
import pytest

from max_gpt2.errors import ServeError
from max_gpt2.serve.frontend.schema import UNSUPPORTED_FIELDS
from max_gpt2.serve.launch import check_origins
from max_gpt2.serve.settings import Limits, ServedModel
from tests.serve.frontend.fake_worker import FAIL, GARBAGE, REFUSE
from tests.serve.frontend.servers import Api, api, error_of

CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ""}, "prompt", "the string is empty"),
    ({"prompt": []}, "prompt", "the list is empty"),
    ({"prompt": [[]]}, "prompt[0]", "the list is empty"),
    ({"prompt": ["a", ""]}, "prompt[1]", "the string is empty"),
    ({"prompt": 5}, "prompt", "5 is neither a string nor a list"),
    ({"prompt": {"a": 1}}, "prompt", "an object is neither a string nor a list"),
    ({"prompt": [True]}, "prompt[0]", "true is not a string, a token id or a list of token ids"),
    ({"prompt": [1, True]}, "prompt[1]", "true is not a token id"),
    ({"prompt": [1.5]}, "prompt[0]", "1.5 is not a string, a token id or a list of token ids"),
    ({"prompt": [1, "a"]}, "prompt[1]", "'a' is not a token id"),
    ({"prompt": ["a", 1]}, "prompt[1]", "1 differs in type from the first prompt"),
    ({"prompt": ["a", [1]]}, "prompt[1]", "a list differs in type from the first prompt"),
    ({"prompt": [[1], "a"]}, "prompt[1]", "'a' differs in type from the first prompt"),
    ({"prompt": [[1], [311]]}, "prompt[1][0]", "the token id 311 is not in 0 .. 310"),
    ({"prompt": [1, -1]}, "prompt[1]", "the token id -1 is not in 0 .. 310"),
    ({"prompt": [10**30]}, "prompt[0]", "is not in 0 .. 310"),
    ({"prompt": [5] * 68}, "prompt", "it has 68 tokens, but the context of tiny is 67"),
    ({"prompt": "a b c " * 3000}, "prompt", "the context of tiny is 67"),
    ({"prompt": ["a"] * 2049}, "prompt", "there are 2049 prompts; the maximum is 2048"),
    ({"prompt": ["a"] * 1000, "n": 3}, "n", "1000 prompts times 3 samples exceed the maximum of 2048 sequences"),
    ({"prompt": "a\ud800b"}, "prompt", "not valid Unicode at position 1"),
    ({"max_tokens": -1}, "max_tokens", "it must be greater than or equal to 0, but is -1. Correct it."),
    ({"max_tokens": "5"}, "max_tokens", "a valid integer, but is '5'"),
    ({"max_tokens": 5.5}, "max_tokens", "a valid integer"),
    ({"max_tokens": True}, "max_tokens", "a valid integer, but is true"),
    ({"max_tokens": 66}, "max_tokens", "exceed the context of 67. Use at most 65"),
    ({"max_tokens": 10**30}, "max_tokens", "exceed the context"),
    ({"prompt": [5] * 67}, "prompt", "it has 67 tokens and fills the context of tiny"),
    ({"prompt": [5] * 67, "max_tokens": 1}, "max_tokens", "Shorten the prompt"),
    ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
    ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
    ({"temperature": "hot"}, "temperature", "a valid number"),
    ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
    ({"top_k": -2}, "top_k", "greater than or equal to -1"),
    ({"min_p": 2}, "min_p", "less than or equal to 1"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": 129}, "n", "less than or equal to 128"),
    ({"best_of": 21}, "best_of", "less than or equal to 20"),
    ({"best_of": 2, "n": 3}, "best_of", "2 is less than n (3)"),
    ({"best_of": 2, "stream": True}, "best_of", "Leave out stream or best_of"),
    ({"stream": "yes"}, "stream", "a valid boolean"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "it requires stream: true"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "this field does not exist"),
    ({"stream": True, "stream_options": 5}, "stream_options", "it must be an object, but is 5"),
    ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
    ({"logprobs": True}, "logprobs", "a valid integer"),
    ({"echo": 1}, "echo", "a valid boolean"),
    ({"stop": ""}, "stop", "the string is empty"),
    ({"stop": ["a", ""]}, "stop[1]", "the string is empty"),
    ({"stop": [1]}, "stop[0]", "1 is not a string"),
    ({"stop": 7}, "stop", "7 is neither a string nor a list"),
    ({"stop": ["a"] * 17}, "stop", "there are 17 strings"),
    ({"stop": "\udfff"}, "stop", "not valid Unicode"),
    ({"stop_ids": 5}, "stop_ids", "5 is not a list of token ids"),
    ({"stop_ids": [1] * 257}, "stop_ids", "there are 257 ids"),
    ({"stop_ids": [1, "a"]}, "stop_ids[1]", "'a' is not a token id"),
    ({"stop_ids": [True]}, "stop_ids[0]", "true is not a token id"),
    ({"stop_ids": [311]}, "stop_ids[0]", "the token id 311 is not in 0 .. 310"),
    ({"presence_penalty": 2.5}, "presence_penalty", "less than or equal to 2"),
    ({"frequency_penalty": -2.5}, "frequency_penalty", "greater than or equal to -2"),
    ({"repetition_penalty": 0}, "repetition_penalty", "greater than 0"),
    ({"logit_bias": [1]}, "logit_bias", "a list is not an object"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "'x' is not a token id in 0 .. 299"),
    ({"logit_bias": {"300": 1}}, "logit_bias", "'300' is not a token id in 0 .. 299"),
    ({"logit_bias": {"-1": 1}}, "logit_bias", "'-1' is not a token id"),
    ({"logit_bias": {"\u0663": 1}}, "logit_bias", "is not a token id"),
    ({"logit_bias": {"3": 101}}, "logit_bias", "101 for token id 3 is not a number in -100 .. 100"),
    ({"logit_bias": {"3": "1"}}, "logit_bias", "'1' for token id 3"),
    ({"seed": 2**63}, "seed", "less than 9223372036854775808"),
    ({"seed": 1.5}, "seed", "a valid integer"),
    ({"user": 5}, "user", "a valid string"),
    ({"user": "\ud800"}, "user", "not valid Unicode"),
    ({"suffix": "end"}, "suffix", "GPT-2 can only continue a text"),
    ({"temprature": 1}, "temprature", "this field does not exist. Did you mean temperature?"),
    ({"foo": None}, "foo", "this field does not exist"),
    ({"model": 5}, "model", "a valid string"),
]


@pytest.mark.parametrize(("fields", "param", "message"), CASES, ids=lambda case: str(case)[:40])
def test_invalid_field_is_a_400_that_names_it(shared: Api, fields: dict[str, Any], param: str, message: str) -> None:
    before = len(shared.worker.seen)
    body = json.dumps({"model": "tiny", "prompt": "ab"} | fields).encode()
    answer = shared.client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    error = error_of(answer, 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert message in error["message"]
    assert error["message"].startswith(param)
    assert len(error["message"]) < 600
    assert len(shared.worker.seen) == before


@pytest.mark.parametrize("name", sorted(UNSUPPORTED_FIELDS))
def test_unsupported_openai_field_is_rejected(shared: Api, name: str) -> None:
    path = "/v1/completions" if name == "suffix" else "/v1/chat/completions"
    fields: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], name: "x"}
    if name == "suffix":
        fields = {"model": "tiny", "prompt": "a", name: "x"}
    error = shared.refused(400, path, **fields)
    assert (error["param"], error["code"]) == (name, "unsupported_field")


BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "not valid JSON"),
    (b"{", 400, "not valid JSON"),
    (b'{"model": "tiny",}', 400, "at line 1, column"),
    (b"[]", 400, "not an object"),
    (b"null", 400, "not an object"),
    (b'"text"', 400, "not an object"),
    (b'\xff{"model": "tiny"}', 400, "not valid UTF-8 at byte 0"),
    (b'\xef\xbb\xbf{"model": "tiny"}', 400, "not valid JSON"),
    ('{"model": "tiny"}'.encode("utf-16"), 400, "not valid UTF-8"),
    (b'{"model": "tiny", "temperature": NaN}', 400, "NaN is not allowed"),
    (b'{"model": "tiny", "temperature": 1e999}', 400, "temperature"),
    (b'{"model": "tiny", "seed": ' + b"9" * 5000 + b"}", 400, "too many digits"),
    (b'{"model": "tiny", "model": "tiny"}', 400, "The field model appears more than once"),
    (b'{"model": "tiny", "logit_bias": {"1": 1, "1": 2}}', 400, "The field 1 appears more than once"),
    (b"[" * 9000, 400, "nested too deeply"),
    (b'{"a":' * 3000, 400, "nested too deeply"),
    (b'{"\\ud800": 1, "model": "tiny"}', 400, "field name: it is not valid Unicode"),
    (b'{"prompt": "a"}', 400, "model: the field is required"),
    (b'{"model": "tiny", "prompt": "' + b"a" * 30_000 + b'"}', 413, "larger than 20000 bytes"),
    (b'{"model": "other", "prompt": "a"}', 404, "The model 'other' is not served here. Use 'tiny'"),
    (b'{"model": "", "prompt": "a"}', 404, "The model '' is not served here"),
]


@pytest.mark.parametrize(("body", "status", "message"), BODIES, ids=lambda case: str(case)[:30])
def test_invalid_body_is_rejected(shared: Api, body: bytes, status: int, message: str) -> None:
    answer = shared.client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert message in error_of(answer, status)["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_content_type_other_than_json_is_a_415(shared: Api, kind: str) -> None:
    answer = shared.client.post("/v1/completions", content=b"{}", headers={"Content-Type": kind})
    assert "Send JSON with Content-Type: application/json" in error_of(answer, 415)["message"]


def test_content_type_with_charset_is_accepted(shared: Api) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    body = json.dumps({"model": "tiny", "prompt": "ab", "max_tokens": 1}).encode()
    assert shared.client.post("/v1/completions", content=body, headers=headers).status_code == 200


def test_unknown_path_is_a_404_and_wrong_method_a_405(shared: Api) -> None:
    assert "This path does not exist" in error_of(shared.client.post("/v1/embeddings", json={}), 404)["message"]
    assert error_of(shared.client.get("/"), 404)["type"] == "not_found_error"
    for method, path, allowed in (
        ("GET", "/v1/completions", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("TRACE", "/health", "GET"),
    ):
        answer = shared.client.request(method, path)
        assert f"This path does not support {method}. Use " in error_of(answer, 405)["message"]
        assert allowed in answer.headers["allow"]


def test_models_lists_the_served_model(shared: Api) -> None:
    (card,) = shared.client.get("/v1/models").json()["data"]
    assert (card["id"], card["object"], card["max_model_len"]) == ("tiny", "model", 67)
    assert shared.client.get("/v1/models/tiny").json() == card
    assert error_of(shared.client.get("/v1/models/a/b"), 404)["code"] == "model_not_found"


def test_error_of_the_worker_is_reported(shared: Api) -> None:
    rejected = shared.refused(400, model="tiny", prompt=[REFUSE])
    assert rejected["message"] == "The worker rejected the request: no such thing. Correct it."
    for command in (GARBAGE, FAIL):
        assert shared.refused(503, model="tiny", prompt=[command])["code"] == "worker_unavailable"


def test_requests_without_the_api_key_are_a_401(served: ServedModel) -> None:
    with api(served, key="a secret") as made:
        get = made.client.get
        for wrong in ("Bearer", "Bearer a secre", "Basic a secret", "", "Bearer a secret!"):
            answer = get("/v1/models", headers={"Authorization": wrong})
            assert error_of(answer, 401)["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        valid = {"Authorization": "Bearer a secret"}
        assert get("/v1/models", headers=valid).status_code == 200
        for path in ("/v1/models", "/metrics", "/version", "/openapi.json", "/nothing"):
            assert error_of(get(path), 401)["type"] == "authentication_error"
        error_of(made.client.post("/v1/completions", content=b"x" * 100_000), 401)
        assert get("/health").status_code == 200


def raw(port: int, data: bytes, wait_s: float = 5.0) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as connection:
        connection.sendall(data)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


def test_invalid_http_is_a_400(shared: Api) -> None:
    found = raw(shared.port, b"\x16\x03\x01 hello\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "error" in json.loads(found.partition(b"\r\n\r\n")[2])


def test_half_open_connections_are_closed(shared: Api) -> None:
    started = time.monotonic()
    assert raw(shared.port, b"") == b""
    assert raw(shared.port, b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n") == b""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    found = raw(shared.port, head)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.6 s" in found
    assert 1.5 < time.monotonic() - started < 5


GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        GET,  # headers that do not end
        GET + b"X: 1\r\nX",
        b"G",
        GET + b"Content-Length: 99\r\n\r\n{",  # a body that the endpoint does not read
        GET + b"Transfer-Encoding: chunked\r\n\r\n99\r\nab",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_incomplete_request_on_a_used_connection_is_closed(shared: Api, rest: bytes, together: bool) -> None:
    """Bytes that trickle in do not prolong the time."""
    with socket.create_connection(("127.0.0.1", shared.port), timeout=5) as connection:
        connection.sendall(GET + b"\r\n" + (rest if together else b""))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(0.2)
        connection.sendall(b"" if together else rest)
        started, closed = time.monotonic(), False
        connection.settimeout(0.1)
        while not closed and time.monotonic() - started < 4:
            try:
                closed = not connection.recv(65536)
                connection.sendall(b"a")
            except TimeoutError:
                connection.sendall(b"a")
            except OSError:
                closed = True
        assert closed
        assert 0.3 < time.monotonic() - started < 3


def test_idle_connection_stays_open_after_a_request(shared: Api) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(GET + b"\r\n")
            time.sleep(0.8)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/v1/completions", "/health", "/nothing"])
@pytest.mark.parametrize("first", ["Content-Length: 4", "Transfer-Encoding: chunked"])
def test_body_with_two_lengths_is_refused(shared: Api, path: str, first: str) -> None:
    """A proxy that uses the other length would take the rest of the body for a request."""
    lengths = sorted(["Content-Length: 4", "Transfer-Encoding: chunked"], key=lambda one: one != first)
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *lengths])
    found = raw(shared.port, f"{head}\r\n\r\n0\r\n\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert found.startswith(b"HTTP/1.1 400")
    assert found.count(b"HTTP/1.1 400 ") == found.count(b"content-type: ") == 1
    assert b"both Transfer-Encoding and Content-Length" in found


def test_chunked_body_of_http_1_0_is_refused(shared: Api) -> None:
    found = raw(shared.port, b"POST /health HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 400")


def test_pages_of_other_origins_are_not_allowed_by_default(shared: Api) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert shared.client.options("/v1/completions", headers=headers).status_code == 405
    assert "access-control-allow-origin" not in shared.client.get("/health", headers=headers).headers


@pytest.mark.parametrize("allowed", [["https://a.example"], ["https://b.example", "https://a.example"], ["*"]])
def test_pages_of_allowed_origins_can_use_the_server(served: ServedModel, allowed: list[str]) -> None:
    with api(served, key="secret", allow_origins=allowed) as made:
        headers = {"Origin": "https://a.example"}
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = made.client.options("/v1/completions", headers=headers | asked)
        assert preflight.status_code == 200
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        for extra in ({}, {"Authorization": "Bearer secret"}):  # pages can read errors, too
            answer = made.client.get("/v1/models", headers=headers | extra)
            assert answer.headers["access-control-allow-origin"] in ("*", "https://a.example")
        other = made.client.get("/v1/models", headers={"Origin": "https://c.example"})
        assert other.headers.get("access-control-allow-origin") == ("*" if allowed == ["*"] else None)


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://a.example/path", "", "https://"])
def test_allow_origin_must_be_an_origin(origin: str) -> None:
    check_origins(["https://a.example:8080", "http://localhost:3000", "chrome-extension://abc", "null", "*"])
    with pytest.raises(ServeError, match="is not an origin"):
        check_origins(["*", origin])


def test_chunked_body_is_limited(shared: Api) -> None:
    def parts() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    answer = shared.client.post("/v1/completions", content=parts(), headers={"Content-Type": "application/json"})
    assert error_of(answer, 413)


def test_very_long_text_is_rejected_without_being_encoded(served: ServedModel) -> None:
    limits = Limits(max_body_bytes=8 << 20)
    with api(served, limits=limits) as made:
        started = time.monotonic()
        error = made.refused(400, model="tiny", prompt="a" * (7 << 20))
        assert "at least" in error["message"]
        assert time.monotonic() - started < 2


def test_metrics_of_frontend_and_worker(shared: Api) -> None:
    shared.complete("ab", max_tokens=2)
    page = shared.client.get("/metrics").text
    assert 'max_gpt2_requests_total{path="/v1/completions",status="200"}' in page
    assert 'max_gpt2_requests_total{path="other",status="404"}' in page
    assert "max_gpt2_worker_ready 1.0" in page
    assert "maxserve_batch_size 1" in page


def test_openapi_document_describes_every_field(shared: Api) -> None:
    document = shared.client.get("/openapi.json").json()
    fields = document["components"]["schemas"]["CompletionFields"]
    assert fields["additionalProperties"] is False
    assert fields["required"] == ["model"]
    assert {"prompt", "logit_bias", "echo", "best_of"} <= fields["properties"].keys()
    assert httpx.get(f"http://127.0.0.1:{shared.port}/version").json()["max"] == "26.7.0"
