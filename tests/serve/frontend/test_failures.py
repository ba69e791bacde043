import concurrent.futures
import json
import socket
import time
from typing import Any

import httpx
import pytest

from max_gpt2.serve.settings import ServedModel
from tests.serve.frontend.fake_worker import BREAK, HANG, SLOW
from tests.serve.frontend.servers import Api, api, error_of, eventually


@pytest.fixture
def own(served: ServedModel) -> Any:
    with api(served) as made:
        yield made


@pytest.mark.parametrize("stream", [False, True])
def test_disconnected_client_frees_its_slots(own: Api, stream: bool) -> None:
    fields = {"model": "tiny", "prompt": [HANG], "stream": stream, "n": 3}
    with pytest.raises(httpx.ReadTimeout):
        own.client.post("/v1/completions", json=fields, timeout=0.3)
    eventually(lambda: own.worker.cancelled == 3)
    eventually(lambda: own.frontend.admission.requests == own.frontend.admission.running == 0)
    assert own.worker.running == 0
    own.complete("ab", max_tokens=1)
    assert "max_gpt2_client_disconnects_total 1.0" in own.client.get("/metrics").text


def test_client_that_disconnects_during_a_stream_frees_its_slot(own: Api) -> None:
    fields = {"model": "tiny", "prompt": [SLOW], "stream": True, "max_tokens": 60}
    with own.client.stream("POST", "/v1/completions", json=fields) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    eventually(lambda: own.worker.cancelled == 1)
    eventually(lambda: own.frontend.admission.running == 0)


def test_stop_string_cancels_the_request_to_the_worker(own: Api, served: ServedModel) -> None:
    stop = served.token_table.name(SLOW + 3 - 300)
    fields: dict[str, Any] = {"model": "tiny", "prompt": [SLOW], "stream": True, "max_tokens": 60, "temperature": 0}
    with own.client.stream("POST", "/v1/completions", json=fields | {"stop": stop}) as answer:
        assert list(answer.iter_lines())[-2:] == ["data: [DONE]", ""]
    eventually(lambda: own.worker.cancelled == 1)


def test_client_that_does_not_read_is_disconnected(own: Api) -> None:
    body = json.dumps({"model": "tiny", "prompt": [[5]] * 40, "stream": True, "max_tokens": 60, "logprobs": 5}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", own.port))
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        eventually(lambda: own.frontend.admission.requests == 1)
        eventually(lambda: own.frontend.admission.requests == 0, 30)
    assert own.complete("ab", max_tokens=1)


def test_requests_beyond_the_queue_are_a_429(own: Api) -> None:
    fields = {"model": "tiny", "prompt": [SLOW], "max_tokens": 20}
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: own.client.post("/v1/completions", json=fields), range(20)))
    accepted = [answer for answer in answers if answer.status_code == 200]
    rejected = [answer for answer in answers if answer.status_code != 200]
    assert len(accepted) == 12  # a batch of 4, and a queue of 8
    for answer in rejected:
        assert error_of(answer, 429)["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1
    assert own.worker.most_running == 8  # twice the batch, so that the worker never waits for the next one


def test_request_with_many_prompts_does_not_block_others(own: Api) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        many = pool.submit(own.complete, [[SLOW]] * 12, max_tokens=10)
        eventually(lambda: own.worker.running == 4)
        started = time.monotonic()
        own.complete([7], max_tokens=2)
        assert time.monotonic() - started < 0.4
        assert not many.done()
        assert len(many.result()["choices"]) == 12
    assert own.worker.most_running == 5  # one batch of the first request, and the second one


@pytest.mark.parametrize("state", ["starting", "restarting", "failed"])
def test_requests_without_a_ready_worker_are_a_503_with_the_reason(served: ServedModel, state: Any) -> None:
    with api(served) as made:
        made.health.transition_to(state, "It is broken.")
        answer = made.client.post("/v1/completions", json={"model": "tiny", "prompt": "a"})
        assert error_of(answer, 503)["message"] == "It is broken. Retry later."
        assert answer.headers["retry-after"] == "1"
        health = made.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, state)
        assert made.refused(400, model="tiny", prompt="")["param"] == "prompt"
        made.health.transition_to("ready")
        assert made.client.get("/health").status_code == 200
        made.complete("ab", max_tokens=1)


def test_draining_server_rejects_new_requests(own: Api) -> None:
    own.frontend.draining = True
    answer = own.client.post("/v1/completions", json={"model": "tiny", "prompt": "a"})
    assert error_of(answer, 503)["code"] == "stopping"
    assert answer.headers["connection"] == "close"
    assert own.client.get("/health").json()["status"] == "stopping"


def test_unreachable_worker_is_a_503(own: Api) -> None:
    own.health.url = "http://127.0.0.1:1"
    for stream in (False, True):
        error = own.refused(503, model="tiny", prompt="a", stream=stream)
        assert "The worker failed during the request" in error["message"]


def test_request_on_a_closed_connection_is_retried_once(own: Api) -> None:
    answer = json.dumps({"choices": [{"token_ids": [10], "finish_reason": "length"}]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
    with socket.create_server(("127.0.0.1", 0)) as listening, concurrent.futures.ThreadPoolExecutor(1) as pool:
        own.health.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def answer_some(replies: list[bytes]) -> None:
            for reply in replies:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        second = pool.submit(answer_some, [b"", head + answer])
        assert own.complete("ab", max_tokens=1)["usage"]["completion_tokens"] == 1
        second.result(5)
        twice = pool.submit(answer_some, [b"", b""])
        assert own.refused(503, model="tiny", prompt="ab")["code"] == "worker_unavailable"
        twice.result(5)


def test_broken_stream_ends_with_an_error_event(own: Api) -> None:
    fields = {"model": "tiny", "prompt": [BREAK], "stream": True, "max_tokens": 9}
    with own.client.stream("POST", "/v1/completions", json=fields) as answer:
        assert answer.status_code == 200
        lines = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert [line["choices"][0]["text"] != "" for line in lines[:2]] == [True, True]
    assert len(lines) == 3
    assert lines[2]["error"]["code"] == "worker_unavailable"
    assert own.frontend.admission.running == 0
