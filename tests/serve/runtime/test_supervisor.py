import concurrent.futures
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from max_gpt2.serve.runtime.reaper import session_members
from tests.serve.frontend.fake_worker import DIE, DIE_LATER, HANG, SLOW
from tests.serve.frontend.process_tree import alive, started_by
from tests.serve.frontend.servers import eventually
from tests.serve.runtime.server_process import server


def test_stopped_server_exits_with_0(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        assert made.status() == "ready"
        assert made.complete([10], max_tokens=3).status_code == 200
        made.process.send_signal(signal.SIGTERM)
        code, err = made.wait()
        assert code == 0
        assert "Traceback" not in err


def test_stop_drains_requests_in_flight(tiny_original: Path) -> None:
    with server(tiny_original) as made, concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = pool.submit(made.complete, [SLOW], max_tokens=40)
        eventually(lambda: made.has_running(1))
        made.process.send_signal(signal.SIGINT)
        eventually(made.refuses_connections)
        assert not running.done()
        assert running.result().json()["usage"]["completion_tokens"] == 40
        code, err = made.wait()
        assert code == 0
        assert "Requests in flight: 1." in err


def test_requests_beyond_the_drain_time_get_a_503(tiny_original: Path) -> None:
    options = ("--drain", "0.3", "--stall", "60")
    with server(tiny_original, *options) as made, concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = pool.submit(made.complete, [HANG])
        eventually(lambda: made.has_running(1))
        made.process.send_signal(signal.SIGTERM)
        answer = running.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_unavailable")
        assert made.wait()[0] == 0


def test_second_signal_stops_immediately(tiny_original: Path) -> None:
    options = ("--drain", "60", "--stall", "60")
    with server(tiny_original, *options) as made, concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(made.complete, [HANG])
        eventually(lambda: made.has_running(1))
        made.process.send_signal(signal.SIGINT)
        eventually(made.refuses_connections)
        assert made.process.poll() is None
        made.process.send_signal(signal.SIGINT)
        assert made.wait()[0] == 2
        assert running.result().status_code == 503


def test_killed_worker_is_restarted(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--pause", "0.05") as made, concurrent.futures.ThreadPoolExecutor(8) as pool:
        before = made.descendants()
        others = [pool.submit(made.complete, [10], max_tokens=60) for _ in range(3)]
        eventually(lambda: made.has_running(3))
        answer = made.complete([DIE])
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert {other.result().status_code for other in others} == {503}
        eventually(made.is_ready_again)
        assert made.complete([10], max_tokens=2).status_code == 200
        assert not any(alive(pid) for pid in before)
        assert "max_gpt2_worker_restarts_total 1.0" in made.client.get("/metrics").text
        made.process.terminate()
        assert "The worker was killed by SIGKILL." in made.wait()[1]


def test_stream_ends_with_an_error_when_the_worker_dies(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        fields = {"model": "tiny", "prompt": [DIE_LATER], "stream": True, "max_tokens": 9}
        with made.client.stream("POST", "/v1/completions", json=fields) as answer:
            lines = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
        assert lines[0]["choices"]
        assert lines[-1]["error"]["code"] == "worker_unavailable"
        eventually(made.is_ready_again)


def test_health_is_503_while_the_worker_starts(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--start-s", "0.7", ready=False) as made:
        answer = made.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "starting")
        assert made.complete([10]).status_code == 503
        eventually(lambda: made.status() == "ready")
        assert made.client.get("/health").status_code == 200


def test_server_can_be_stopped_while_it_starts(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--start-s", "60", ready=False) as made:
        eventually(lambda: len(made.descendants()) == 2)
        made.process.send_signal(signal.SIGTERM)
        assert made.wait()[0] == 0


def test_server_gives_up_when_the_worker_fails_to_start(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--fail", "no such matrix", ready=False) as made:
        code, err = made.wait()
        assert code == 2
        last = err.splitlines()[-1]
        assert last.startswith("error: The worker failed to start 3 times in a row")
        assert "exited with code 3: ValueError: no such matrix" in last
        assert "max-gpt2 doctor" in last
        assert "worker: Traceback" in err


def test_worker_without_progress_is_restarted(tiny_original: Path) -> None:
    with server(tiny_original) as made, concurrent.futures.ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(made.complete, [HANG])
        answer = hanging.result(timeout=15)
        assert answer.status_code == 503
        eventually(made.is_ready_again)
        assert made.complete([10], max_tokens=2).status_code == 200
        made.process.terminate()
        assert "generated nothing for 1.5 s although sequences were running" in made.wait()[1]


def test_unresponsive_worker_is_restarted(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        (worker,) = [pid for pid in made.descendants() if pid not in started_by(made.process.pid)]
        os.kill(worker, signal.SIGSTOP)
        eventually(made.is_ready_again, 20)
        assert not alive(worker)


@pytest.mark.parametrize("options", [[], ["--ignore-sigterm"], ["--child"], ["--ignore-sigterm", "--child"]])
def test_no_process_survives_a_killed_server(tiny_original: Path, options: list[str]) -> None:
    with server(tiny_original, "--", *options) as made:
        members = made.descendants()
        assert len(members) == 2 + ("--child" in options)
        made.process.kill()
        eventually(lambda: not any(alive(pid) for pid in members))


@pytest.mark.parametrize("options", [["--ignore-sigterm"], ["--child"]])
def test_no_process_survives_a_stop(tiny_original: Path, options: list[str]) -> None:
    with server(tiny_original, "--", *options) as made:
        members = made.descendants()
        made.process.terminate()
        assert made.wait()[0] == 0
        assert not any(alive(pid) for pid in members)


def test_no_process_survives_a_killed_reaper(tiny_original: Path) -> None:
    with server(tiny_original, "--", "--child") as made:
        (reaper,) = started_by(made.process.pid)
        worker = session_members(reaper)
        assert len(worker) == 2
        os.kill(reaper, signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in worker), 1)  # before `silent_s` would have killed them
        eventually(made.is_ready_again)


def test_used_port_is_an_error(tiny_original: Path) -> None:
    with server(tiny_original) as made:
        port = str(made.client.base_url.port)
        command = [sys.executable, "-m", "tests.serve.frontend.serve_fake", str(tiny_original), port]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: Port {port} on 127.0.0.1 is already in use. Stop the process that uses it, or choose another "
            "--port.\n"
        )
