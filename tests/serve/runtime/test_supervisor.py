import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from max_gpt2.serve.runtime.reaper import session_members
from tests.serve.frontend.fake_worker import DIE, DIE_LATER, HANG, SLOW
from tests.serve.frontend.test_failures import eventually
from tests.serve.frontend.tree import alive, descendants, started_by


@dataclass
class Server:
    process: "subprocess.Popen[str]"
    client: httpx.Client

    def complete(self, prompt: list[int], **fields: Any) -> httpx.Response:
        return self.client.post("/v1/completions", json={"model": "tiny", "prompt": prompt} | fields)

    def status(self) -> str:
        return str(self.client.get("/health").json()["status"])

    def writes(self, texts: int) -> bool:
        """Whether its worker writes so many texts now."""
        return f"max_gpt2_sequences_running {texts:.1f}\n" in self.client.get("/metrics").text

    def is_deaf(self) -> bool:
        """Whether it takes no new connections."""
        try:
            socket.create_connection((self.client.base_url.host, self.client.base_url.port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    def is_again_ready(self, restarts: int = 1) -> bool:
        """It takes the supervisor some hundredths of a second to notice that a worker has died."""
        health = self.client.get("/health").json()
        return bool(health["status"] == "ready" and health["restarts"] == restarts)

    def descendants(self) -> list[int]:
        """The reaper and the worker."""
        return descendants(self.process.pid)

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@contextlib.contextmanager
def server(folder: Path, *options: str, ready: bool = True) -> Iterator[Server]:
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
            eventually(lambda: not any(alive(pid) for pid in members))  # nothing stays behind, whatever the test did


def test_it_serves_and_ends_with_0(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        assert made.status() == "ready"
        assert made.complete([10], max_tokens=3).status_code == 200
        made.process.send_signal(signal.SIGTERM)
        code, err = made.end()
        assert code == 0
        assert "Traceback" not in err


def test_what_has_begun_is_finished_when_it_is_stopped(tiny_original: Path) -> None:
    with server(tiny_original) as made, concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = pool.submit(made.complete, [SLOW], max_tokens=40)
        eventually(lambda: made.writes(1))
        made.process.send_signal(signal.SIGINT)
        eventually(made.is_deaf)
        assert not running.done()
        assert running.result().json()["usage"]["completion_tokens"] == 40
        code, err = made.end()
        assert code == 0
        assert "1 requests are being finished" in err


def test_what_takes_too_long_is_cut_off_cleanly(tiny_original: Path) -> None:
    options = ("--drain", "0.3", "--stall", "60")
    with server(tiny_original, *options) as made, concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = pool.submit(made.complete, [HANG])
        eventually(lambda: made.writes(1))
        made.process.send_signal(signal.SIGTERM)
        answer = running.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_unavailable")
        assert made.end()[0] == 0


def test_a_second_signal_stops_at_once(tiny_original: Path) -> None:
    options = ("--drain", "60", "--stall", "60")
    with server(tiny_original, *options) as made, concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(made.complete, [HANG])
        eventually(lambda: made.writes(1))
        made.process.send_signal(signal.SIGINT)
        eventually(made.is_deaf)
        assert made.process.poll() is None
        made.process.send_signal(signal.SIGINT)
        assert made.end()[0] == 2
        assert running.result().status_code == 503


def test_a_worker_that_dies_is_started_again(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--pause", "0.05") as made, concurrent.futures.ThreadPoolExecutor(8) as pool:
        before = made.descendants()
        others = [pool.submit(made.complete, [10], max_tokens=60) for _ in range(3)]
        eventually(lambda: made.writes(3))
        answer = made.complete([DIE])
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert {other.result().status_code for other in others} == {503}
        eventually(made.is_again_ready)
        assert made.complete([10], max_tokens=2).status_code == 200
        assert not any(alive(pid) for pid in before)
        assert "max_gpt2_worker_restarts_total 1.0" in made.client.get("/metrics").text
        made.process.terminate()
        assert "The worker was killed by SIGKILL." in made.end()[1]


def test_a_stream_whose_worker_dies_ends_with_an_error(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        fields = {"model": "tiny", "prompt": [DIE_LATER], "stream": True, "max_tokens": 9}
        with made.client.stream("POST", "/v1/completions", json=fields) as answer:
            lines = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
        assert lines[0]["choices"]
        assert lines[-1]["error"]["code"] == "worker_unavailable"
        eventually(made.is_again_ready)


def test_health_tells_the_truth_while_it_starts(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--start-s", "0.7", ready=False) as made:
        answer = made.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "starting")
        assert made.complete([10]).status_code == 503
        eventually(lambda: made.status() == "ready")
        assert made.client.get("/health").status_code == 200


def test_it_can_be_stopped_while_it_starts(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--start-s", "60", ready=False) as made:
        eventually(lambda: len(made.descendants()) == 2)
        made.process.send_signal(signal.SIGTERM)
        assert made.end()[0] == 0


def test_it_gives_up_when_the_worker_never_starts(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--fail", "no such matrix", ready=False) as made:
        code, err = made.end()
        assert code == 2
        last = err.splitlines()[-1]
        assert last.startswith("error: The worker could not be started 3 times")
        assert "exit code 3: ValueError: no such matrix" in last
        assert "max-gpt2 doctor" in last
        assert "worker: Traceback" in err


def test_a_worker_that_hangs_is_started_again(tiny_original: Path) -> None:
    with server(tiny_original) as made, concurrent.futures.ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(made.complete, [HANG])
        answer = hanging.result(timeout=15)
        assert answer.status_code == 503
        eventually(made.is_again_ready)
        assert made.complete([10], max_tokens=2).status_code == 200
        made.process.terminate()
        assert "wrote nothing for 1.5 s, though it had something to write" in made.end()[1]


def test_a_worker_whose_server_stands_still_is_started_again(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        (worker,) = [pid for pid in made.descendants() if pid not in started_by(made.process.pid)]
        os.kill(worker, signal.SIGSTOP)
        eventually(made.is_again_ready, 20)
        assert not alive(worker)


@pytest.mark.parametrize("options", [[], ["--deaf"], ["--child"], ["--deaf", "--child"]])
def test_nothing_survives_a_supervisor_that_is_killed(tiny_original: Path, options: list[str]) -> None:
    with server(tiny_original, "--", *options) as made:
        members = made.descendants()
        assert len(members) == 2 + ("--child" in options)
        made.process.kill()
        eventually(lambda: not any(alive(pid) for pid in members))


@pytest.mark.parametrize("options", [["--deaf"], ["--child"]])
def test_nothing_survives_a_stop(tiny_original: Path, options: list[str]) -> None:
    with server(tiny_original, "--", *options) as made:
        members = made.descendants()
        made.process.terminate()
        assert made.end()[0] == 0
        assert not any(alive(pid) for pid in members)


def test_nothing_survives_a_leash_that_is_killed(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--child") as made:
        (reaper,) = started_by(made.process.pid)
        worker = session_members(reaper)
        assert len(worker) == 2
        os.kill(reaper, signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in worker), 1)  # sooner than its silence would be noticed
        eventually(made.is_again_ready)


def test_a_port_that_is_taken(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        port = str(made.client.base_url.port)
        command = [sys.executable, "-m", "tests.serve.frontend.serve_fake", str(tiny_original), port]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: The port {port} of 127.0.0.1 is taken. End what listens there, or use --port.\n"
