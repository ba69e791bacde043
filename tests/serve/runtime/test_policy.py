"""Restarts and timeouts of the supervisor, with workers that only start, answer and exit."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

import pytest

from max_gpt2.errors import ServeError
from max_gpt2.serve.frontend.health import Health
from max_gpt2.serve.runtime.process import Command
from max_gpt2.serve.runtime.supervisor import Policy, Supervisor

#: A worker that answers as MAX's server does, and exits soon after a request for its models.
BRIEF = """
import http.server, os, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"data": [{"id": "m"}]}')
        if "models" in self.path: threading.Timer(0.3, lambda: os._exit(1)).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
FAILS, NEVER_READY = "import sys; sys.exit(3)", "import time; time.sleep(60)"


def supervised(
    workers: Sequence[str], caplog: pytest.LogCaptureFixture, **policy: float
) -> tuple[list[float], str, int]:
    """Run one worker after another until the supervisor gives up; return the pauses, the error and the starts."""
    started = iter(workers)
    count = 0

    def launch(port: int, metrics_port: int) -> Command:
        nonlocal count
        del metrics_port
        count += 1
        return Command([sys.executable, "-c", next(started), str(port)], dict(os.environ))

    fields = {"first_pause_s": 0.01, "longest_pause_s": 0.04, "poll_s": 0.02, "end_s": 0.5} | policy

    async def run() -> None:
        supervisor = Supervisor(launch, Health(), Policy(**fields), lambda: 0)  # type: ignore[arg-type]
        await asyncio.wait_for(supervisor.run(), 60)

    with caplog.at_level(logging.WARNING, "max_gpt2.serve"), pytest.raises(ServeError) as gave_up:
        asyncio.run(run())
    messages = [record.getMessage() for record in caplog.records]
    pauses = [float(message.split()[-2]) for message in messages if message.startswith("Restarting the worker in")]
    return pauses, str(gave_up.value), count


def test_gives_up_after_failures_in_a_row_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    workers = [FAILS, FAILS, BRIEF, FAILS, FAILS, FAILS, FAILS]
    pauses, error, count = supervised(workers, caplog)
    assert count == 6  # two failures, one worker that becomes ready, and three failures
    assert pauses == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert "failed to start 3 times in a row" in error


def test_pauses_restart_after_a_settled_worker(caplog: pytest.LogCaptureFixture) -> None:
    pauses, _, _ = supervised([FAILS, FAILS, BRIEF, FAILS, FAILS, FAILS], caplog, settled_s=0.1)
    assert pauses == [0.01, 0.02, 0.01, 0.02, 0.04]


def test_worker_that_never_becomes_ready_is_a_failed_start(caplog: pytest.LogCaptureFixture) -> None:
    pauses, error, count = supervised([NEVER_READY] * 4, caplog, start_s=0.3)
    assert count == 3
    assert len(pauses) == 2
    assert "The worker was not ready after 0.3 s." in error
