"""Run `max-gpt2 serve` with the demo checkpoint, as a user starts it."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.serve.frontend.process_tree import alive, descendants


@dataclass
class RealServer:
    """A ready server; `output` has the lines that it printed when it became ready."""

    process: "subprocess.Popen[str]"
    url: str
    output: list[str]
    log: list[str] = field(default_factory=list)
    restarts: int = 0

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return httpx.URL(self.url).host

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port = httpx.URL(self.url).port
        assert port
        return port

    def complete(self, prompt: Any, **fields: Any) -> dict[str, Any]:
        """Send a request that succeeds."""
        body = {"model": "demo", "prompt": prompt} | fields
        answer = httpx.post(f"{self.url}/v1/completions", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def health(self) -> dict[str, Any]:
        """Return the body of /health."""
        found: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=10).json()
        return found


@contextlib.contextmanager
def real_server(*options: str) -> Iterator[RealServer]:
    """Run a server on a free port; stop it, and check that none of its processes is left."""
    command = [sys.executable, "-m", "max_gpt2", "serve", "--model", "demo", "--port", "0", "--max-batch-size", "8"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=log.extend, args=[iter(process.stderr.readline, "")], daemon=True)
    reader.start()
    try:
        output = [process.stdout.readline(), process.stdout.readline()]
        if not output[0].startswith("Ready: "):
            raise AssertionError(f"The server did not become ready:\n{''.join(log)}")
        server = RealServer(process, output[0].partition(" at ")[2].partition("/v1 ")[0], output, log)
        members = descendants(process.pid)
        yield server
        server.restarts = server.health()["restarts"]
        members += descendants(process.pid)
    finally:
        process.terminate()
        code = process.wait(60)
        process.stdout.close()
        reader.join(5)
        process.stderr.close()
    assert code == 0, "".join(log)
    assert not [pid for pid in members if alive(pid)]
    assert [line for line in log if "Traceback" in line and "worker: " not in line] == []
