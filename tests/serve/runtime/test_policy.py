"""How patient the supervisor is, with workers that do nothing but start, answer, and end."""

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

#: Answers as MAX's server does, and ends soon after it was asked for its model.
BRIEF = """
import http.server, os, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"data": [{"id": "m"}]}')
        if "models" in self.path: threading.Timer(0.3, lambda: os._exit(1)).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
FAILS, NEVER = "import sys; sys.exit(3)", "import time; time.sleep(60)"


def supervised(
    workers: Sequence[str], caplog: pytest.LogCaptureFixture, **policy: float
) -> tuple[list[float], str, int]:
    """Run one worker after the other until the supervisor gives up; return its pauses, last word and starts."""
    started = iter(workers)
    count = 0

    def launch(port: int, metrics_port: int) -> Command:
        nonlocal count
        del metrics_port
        count += 1
        return Command([sys.executable, "-c", next(started), str(port)], dict(os.environ))

    patience = {"first_pause_s": 0.01, "longest_pause_s": 0.04, "poll_s": 0.02, "end_s": 0.5} | policy

    async def run() -> None:
        supervisor = Supervisor(launch, Health(), Policy(**patience), lambda: 0)  # type: ignore[arg-type]
        await asyncio.wait_for(supervisor.run(), 60)

    with caplog.at_level(logging.WARNING, "max_gpt2.serve"), pytest.raises(ServeError) as gave_up:
        asyncio.run(run())
    pauses = [float(one.getMessage().split()[-2]) for one in caplog.records if "again in" in one.getMessage()]
    return pauses, str(gave_up.value), count


def test_failures_count_in_a_row_and_the_pauses_grow(caplog: pytest.LogCaptureFixture) -> None:
    workers = [FAILS, FAILS, BRIEF, FAILS, FAILS, FAILS, FAILS]
    pauses, last, count = supervised(workers, caplog)
    assert count == 6  # two failures before one that was ready, and three after it
    assert pauses == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert "could not be started 3 times" in last


def test_after_a_worker_that_stayed_the_pauses_begin_anew(caplog: pytest.LogCaptureFixture) -> None:
    pauses, _, _ = supervised([FAILS, FAILS, BRIEF, FAILS, FAILS, FAILS], caplog, settled_s=0.1)
    assert pauses == [0.01, 0.02, 0.01, 0.02, 0.04]


def test_a_worker_that_never_answers_is_a_failed_start(caplog: pytest.LogCaptureFixture) -> None:
    pauses, last, count = supervised([NEVER] * 4, caplog, start_s=0.3)
    assert count == 3
    assert len(pauses) == 2
    assert "The worker was not ready after 0.3 s." in last
