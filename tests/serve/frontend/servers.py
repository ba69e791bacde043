"""Run frontends and fake workers in threads of this process, where they start within milliseconds."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from max_gpt2.serve.frontend.app import Frontend
from max_gpt2.serve.frontend.chat import ChatTemplate
from max_gpt2.serve.frontend.health import Health
from max_gpt2.serve.frontend.protocol import timeout_protocol
from max_gpt2.serve.settings import Limits, ServedModel
from tests.serve.frontend.fake_worker import FakeWorker

LIMITS = Limits(max_batch_size=4, queue_size=8, max_body_bytes=20_000, read_s=0.6, write_s=0.6)


def eventually(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until the condition is true; fail after `within_s` seconds."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextlib.contextmanager
def running(app: ASGIApp, limits: Limits = LIMITS) -> Iterator[int]:
    """Run an application in a thread and yield its port."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # detect a client that does not read soon
    listening.bind(("127.0.0.1", 0))
    listening.listen(200)
    config = uvicorn.Config(
        app, http=timeout_protocol(limits), lifespan="on", log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass
class Api:
    """A frontend, its fake worker, and a client."""

    frontend: Frontend
    worker: FakeWorker
    health: Health
    port: int
    client: httpx.Client

    def complete(self, prompt: Any = "ab", **fields: Any) -> dict[str, Any]:
        """Send a request that succeeds."""
        answer = self.client.post("/v1/completions", json={"model": "tiny", "prompt": prompt} | fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refused(self, status: int, path: str = "/v1/completions", **fields: Any) -> dict[str, Any]:
        """Send a request that is rejected with `status`, and return the error."""
        return error_of(self.client.post(path, json=fields), status)

    def last_seen(self) -> dict[str, Any]:
        """Return the last request that the worker received."""
        return self.worker.seen[-1]


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the error of a response with `status`, and check that it has OpenAI's format."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"].endswith((".", "?"))
    return error


@contextlib.contextmanager
def api(
    served: ServedModel,
    *,
    limits: Limits = LIMITS,
    key: str | None = None,
    template: str | None = None,
    pause_s: float = 0.0,
    allow_origins: Sequence[str] = (),
) -> Iterator[Api]:
    """Run a frontend with a fake worker."""
    worker = FakeWorker(pause_s=pause_s)
    with running(worker.app) as worker_port:
        url = f"http://127.0.0.1:{worker_port}"
        health = Health("ready", url=url, model="worker-model", metrics_url=f"{url}/metrics")
        chat = None if template is None else ChatTemplate(template, served.tokenizer)
        frontend = Frontend(served, limits, health, key, chat, allow_origins)
        with (
            running(frontend.app, limits) as port,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
        ):
            yield Api(frontend, worker, health, port, client)
