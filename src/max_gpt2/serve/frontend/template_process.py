"""Runs the process that renders a chat template, and starts a new one after it was killed for taking too long."""

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from signal import SIGPROF
from typing import Any

from max_gpt2.serve.frontend import template_worker
from max_gpt2.serve.frontend.template_worker import CPU_S, read_frame, write_frame

#: The limit of processor time ends a loop; this one ends a process that is stopped or starved.
_WALL_S = 10.0


class TemplateProcess:
    """A template in a process without access to files, to other processes or to the server's environment.

    Replies have one of the keys `text`, `rejected` (by `raise_exception`) and `failed`, with the reason.
    """

    def __init__(self, source: str) -> None:
        """Store the source; the process starts with the first call."""
        self._source = source
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = int

    def compile(self) -> str | None:
        """Start the process; return the reason if the template is invalid."""
        with self._lock:
            return self._start().get("failed")

    def render(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the reply for the variables of the template."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                reply = self._start()
                if "failed" in reply:
                    return reply
            return self._exchange(variables)

    def close(self) -> None:
        """End the process."""
        self._end()
        self._process = None

    def _start(self) -> dict[str, Any]:
        self.close()
        command = [sys.executable, "-I", str(Path(template_worker.__file__))]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        self._process, self._end = process, weakref.finalize(self, _kill, process)
        return self._exchange({"source": self._source})

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(_WALL_S, process.kill)
        watchdog.start()
        try:
            write_frame(process.stdin, request)
            content = read_frame(process.stdout)
        except OSError:  # the process has ended
            content = None
        finally:
            watchdog.cancel()
        if content is not None:
            return dict(json.loads(content))
        code = process.wait()
        self.close()
        return {"failed": f"it ran for more than {CPU_S:g} s" if code == -SIGPROF else f"its process ended ({code})"}


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):  # a request that was not read
                pipe.close()
