"""An implementation under benchmark: a process that answers requests."""

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
class Implementation:
    """Describe an implementation: its name in tables, its module in `bench.implementations`, checkpoint and Python.

    `loader` is the function of the module that loads the model: `load` to generate, `load_scorer` to score,
    `load_tracer` to trace.
    """

    name: str
    module: str
    folder: Path
    python: Path = Path(sys.executable)
    environment: Mapping[str, str] | None = None
    loader: str = "load"

    def start(self) -> "Process":
        """Start the process; its first answer includes the time to load."""
        return Process(self)


class Process:
    """A running implementation; leaving the `with` block ends it."""

    def __init__(self, implementation: Implementation) -> None:
        """Start the process."""
        self.started, self._implementation = time.perf_counter(), implementation
        call = [implementation.module, implementation.loader, str(implementation.folder)]
        environment = dict(os.environ) | dict(implementation.environment or {})
        self._process = subprocess.Popen(
            [str(implementation.python), str(WORKER), *call],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def generate(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        """Generate `new` tokens for each prompt; return `seconds`, `output` (the tokens) and `peak_bytes`.

        Raises RuntimeError if the process has exited.
        """
        return self._ask({"prompts": prompts, "new": new})

    def score(self, texts: list[list[int]]) -> dict[str, Any]:
        """Score texts of equal length; return `seconds`, `output` (logprobs, [texts, ids - 1]) and `peak_bytes`.

        Raises RuntimeError if the process has exited.
        """
        return self._ask({"texts": texts})

    def trace(self, ids: list[int], what: str, save: Path | None = None) -> dict[str, Any]:
        """Compute activations of a text: "blocks", "logits" (those too) or "everything"; return `seconds`.

        With `save`, write the arrays `logits` [seq, vocab] and `blocks` [n_layer, seq, n_embd] to this file; what is
        not computed is of any shape. Raises RuntimeError if the process has exited.
        """
        return self._ask({"ids": ids, "what": what, "save": save and str(save)})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._implementation.name} exited with code {self._process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # closes the pipes, which ends the worker, and waits for it
            pass
