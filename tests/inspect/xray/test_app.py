"""The server of the page answers this machine's browser, and nothing else."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from math import prod
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from max_gpt2.inspect import Tracer
from max_gpt2.inspect.xray import Analysis
from max_gpt2.inspect.xray.app import ANSWERS, Start, _Turn, make_app
from max_gpt2.inspect.xray.export import export
from max_gpt2.inspect.xray.page import file_page, live_page, static_files

STATE: dict[str, Any] = {"model": 0, "ids": [1, 2, 3], "ablated": []}
EXTRA: dict[str, dict[str, Any]] = {
    "encode": {"text": "abc", "bos": True},
    "next": {"position": 1},
    "sample": {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": 1},
    "lens": {"first": 1, "count": 1},
    "attention": {"layer": 1, "size": 2},
    "head": {"layer": 1, "head": 1},
    "attribution": {"token": 4, "minus": None, "position": 2},
}


@pytest.fixture(scope="module")
def client(tracer: Tracer) -> Iterator[TestClient]:
    app = make_app([Analysis("tiny", tracer, {"passed": True, "text": "Verified."})], Start("abc", True))
    with TestClient(app, "http://localhost:8010") as client:
        yield client


def test_every_question_has_an_answer(client: TestClient) -> None:
    for name in ANSWERS:
        answer = client.post(f"/api/{name}", json={**STATE, **EXTRA.get(name, {})})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"


def test_page_describes_the_model(client: TestClient, tracer: Tracer) -> None:
    info = client.get("/api/page").json()
    (model,) = info.pop("models")
    assert info.pop("version")
    assert info == {"text": "abc", "bos": True, "file": False}
    distinct = {id(one): prod(one.shape) for one in tracer.stages.weights.values()}
    assert model["parameters"] == sum(distinct.values())
    assert {model[name] for name in ("n_layer", "n_head", "n_embd", "vocab_size", "n_positions")} == {3, 24, 311, 67}
    assert model["verdict"] == {"passed": True, "text": "Verified."}
    assert model["bos"] == 299


def test_scripts_of_the_page_are_allowed_by_their_hashes_only(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    scripts = re.search(r"script-src ([^;]+)", policy)
    assert scripts
    assert "unsafe" not in scripts[1]
    inline = re.findall(r"<script(?: type=\"(?:module|importmap)\")?>(.+?)</script>", page.text, re.DOTALL)
    assert len(inline) == 2
    for script in inline:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in scripts[1]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    for name in re.findall(r'(?:src|href)="/(static/[^"]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200


def test_modules_exist_that_modules_import() -> None:
    import_map = json.loads(re.findall(r'importmap">(.+?)</script>', live_page()[0])[0])["imports"]
    for name, text in static_files().items():
        if name != "plotly.min.js":
            assert set(re.findall(r'from "([^"]+)"', text)) <= import_map.keys(), name


def test_nothing_comes_from_outside() -> None:
    for name, text in static_files().items():
        if name != "plotly.min.js":
            found = set(re.findall(r"https?://[^\"'\s)]+", text)) - {"http://www.w3.org/2000/svg"}
            assert not found, name
    assert not re.search(r'(?:src|href)="(?!/static/|#|data:)', live_page()[0])


def test_file_needs_no_other_file(tracer: Tracer) -> None:
    text = "</script><script>alert(1)</script>"
    page = export(Analysis("tiny", tracer, {"passed": None, "text": text}), text, bos=False)
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)', page)
    data = re.findall(r'<script type="application/json" id="data">(.+?)</script>', page)
    assert json.loads(data[0])["page"]["text"] == text
    assert "connect-src 'none'" in page
    imports = json.loads(re.findall(r'<script type="importmap">(.+?)</script>', page)[0])["imports"]
    for url in imports.values():
        assert url.startswith("data:text/javascript;base64,")


def test_script_that_names_the_end_of_a_script_is_kept_in_one_element(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**static_files(), "plotly.min.js": 'let a = "</script>";'}
    monkeypatch.setattr("max_gpt2.inspect.xray.page.static_files", lambda: files)
    assert 'let a = "<\\/script>";' in file_page({})


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "127.0.0.1.example.com", ""])
def test_other_hosts_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/page", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("view", b"{", "The body is not JSON"),
        ("view", b"\xff", "The body is not JSON"),
        ("view", b"[" * 100_000, "The body is not JSON"),
        ("view", b"[]", "not a JSON object"),
        ("view", b" " * (2 << 20), "The request has more than 1048576 bytes"),
        ("view", {"model": 1}, "model 1 does not exist: there are the models 0 to 0"),
        ("view", {"model": "0"}, "model is not an integer"),
        ("view", {"ids": [1e300]}, "ids is not a list of token ids"),
        ("encode", {"text": "", "bos": False}, "The text is empty"),
        ("encode", {"text": 1}, "text is not a string"),
        ("encode", {"text": "a" * 5000}, "A trace needs 1 to 67"),
        ("next", {"position": 3}, "Position 3 is not in the text, which has 3 tokens"),
        ("next", {"position": -1}, "Position -1 is not in the text"),
        ("next", {}, "position is not an integer"),
        ("lens", {"first": -1}, "Send first >= 0 and count >= 1"),
        ("attention", {"layer": 0, "size": 0}, r"size 0 is not in 1 .. 256"),
        ("attention", {"layer": 3, "size": 8}, "the model has the layers 0 to 2"),
        ("head", {"layer": 0, "head": 3}, "Head 3 does not exist"),
        ("attribution", {"token": 311, "position": 0}, "The id 311 is not in"),
        ("attribution", {"token": 1, "minus": "x", "position": 0}, "minus is not an integer"),
        ("sample", {"temperature": -1}, "temperature -1 is not"),
        ("sample", {"temperature": "hot"}, "temperature is not a number"),
        ("sample", {"top_k": 1.5}, "top_k is not a number"),
    ],
)
def test_invalid_questions_are_refused(client: TestClient, name: str, body: Any, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps({**STATE, **body})
    answer = client.post(f"/api/{name}", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_page_of_another_site_cannot_ask(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = client.post("/api/view", content=json.dumps(STATE), headers={"Content-Type": kind})
        assert answer.status_code == 400
    assert client.options("/api/view", headers={"Origin": "https://example.com"}).status_code == 405
    assert "access-control-allow-origin" not in client.get("/api/page").headers


def test_error_within_an_answer_is_a_sentence(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Analysis, "norms", lambda *_: 1 / 0)
    answer = client.post("/api/norms", json=STATE)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("Internal error (ZeroDivisionError")
    assert client.post("/api/view", json=STATE).status_code == 200


def test_unknown_files_are_not_found(client: TestClient) -> None:
    assert client.get("/static/other.js").status_code == 404
    assert client.get("/static/..%2Fapp.py").status_code == 404


@pytest.mark.parametrize("gone", [True, False])
def test_question_that_nobody_waits_for_is_not_computed(tracer: Tracer, gone: bool) -> None:
    computed: list[int] = []
    body: list[dict[str, Any]] = [
        {"type": "http.request", "body": json.dumps(STATE).encode()},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        if len(body) == 1 and not gone:
            await asyncio.sleep(60)
        return body.pop(0)

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")], "path": "/"}

    def compute(_model: Analysis, _fields: Any) -> dict[str, Any]:
        computed.append(1)
        return {}

    turn = _Turn([Analysis("tiny", tracer, {})])
    answer = asyncio.run(turn.answer(compute, Request(scope, receive)))
    assert (answer.status_code, len(computed)) == ((499, 0) if gone else (200, 1))
