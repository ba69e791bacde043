"""A side as the benchmark sees it: a process that answers requests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

WORKER = Path(__file__).parent / "worker.py"


@dataclass(frozen=True)
class Side:
    """What is measured: its name in the tables, its file in `bench.sides`, the Python and the folder to run it with."""

    name: str
    module: str
    folder: Path
    python: Path = Path(sys.executable)
    environment: Mapping[str, str] | None = None

    def start(self) -> "Process":
        """Start it; its first answer takes as long as it needs to load."""
        return Process(self)


class Process:
    """A side that runs, until the `with` block ends."""

    def __init__(self, side: Side) -> None:
        """Start the process."""
        self.started, self._side = time.perf_counter(), side
        command = [str(side.python), str(WORKER), side.module, str(side.folder)]
        environment = dict(os.environ) | dict(side.environment or {})
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        """Return the seconds, the tokens and the peak memory; raises RuntimeError when the process has ended."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps({"prompts": prompts, "new": new}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._side.name} ended with exit code {self._process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # which closes the pipes, so that it ends, and waits for it
            pass
