"""Run a server with a fake worker as a child process."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.serve.frontend.process_tree import alive, descendants
from tests.serve.frontend.servers import eventually


@dataclass
class Server:
    """A running server; `client` sends to it."""

    process: "subprocess.Popen[str]"
    client: httpx.Client

    def complete(self, prompt: list[int], **fields: Any) -> httpx.Response:
        """Send a completion request."""
        return self.client.post("/v1/completions", json={"model": "tiny", "prompt": prompt} | fields)

    def status(self) -> str:
        """Return the status of /health."""
        return str(self.client.get("/health").json()["status"])

    def has_running(self, sequences: int) -> bool:
        """Return True if `sequences` sequences are running."""
        return f"max_gpt2_sequences_running {sequences:.1f}\n" in self.client.get("/metrics").text

    def refuses_connections(self) -> bool:
        """Return True if the server does not accept new connections."""
        try:
            socket.create_connection((self.client.base_url.host, self.client.base_url.port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    def is_ready_again(self, restarts: int = 1) -> bool:
        """Return True if the server is ready after `restarts` restarts of the worker."""
        health = self.client.get("/health").json()
        return bool(health["status"] == "ready" and health["restarts"] == restarts)

    def descendants(self) -> list[int]:
        """Return the process ids of the reaper and the worker."""
        return descendants(self.process.pid)

    def wait(self) -> tuple[int, str]:
        """Wait for the server to exit; return its exit code and its log."""
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@contextlib.contextmanager
def server(folder: Path, *options: str, ready: bool = True) -> Iterator[Server]:
    """Run `serve_fake` with options; afterwards, check that none of its processes is left."""
    command = [sys.executable, "-m", "tests.serve.frontend.serve_fake", str(folder), "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    port = int(process.stdout.readline())
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        made = Server(process, client)
        if ready:
            assert process.stdout.readline() == "ready\n"
        members = made.descendants()
        try:
            yield made
        finally:
            members += made.descendants()
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=20)
            process.stdout.close()
            assert process.stderr is not None
            process.stderr.close()
            eventually(lambda: not any(alive(pid) for pid in members))
