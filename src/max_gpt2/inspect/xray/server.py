"""Load models for the page, and serve it on this machine."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn

from max_gpt2._progress import COMPILING, Runner, silently
from max_gpt2.generation import ModelSource
from max_gpt2.generation.fingerprint import fingerprint
from max_gpt2.inspect.trace import Tracer
from max_gpt2.inspect.xray.analysis import Analysis
from max_gpt2.inspect.xray.app import Start, make_app
from max_gpt2.model.compile_cache import load_or_compile_stages
from max_gpt2.model.stages import Stages
from max_gpt2.verify.verdicts import describe, read_verdict

#: Seconds that answers may take to finish after Ctrl-C.
_LAST_ANSWERS_S = 1


def load_analysis(name: str, opened: ModelSource, run: Runner = silently) -> Analysis:
    """Load the weights of an opened model, by the name that the page shows; raises CheckpointError if damaged."""
    weights = opened.load_weights(run)
    graphs = run(COMPILING, lambda: load_or_compile_stages())
    tracer = Tracer(Stages(opened.config, graphs, weights), opened.tokenizer)
    verdict = read_verdict(fingerprint(opened))
    passed = verdict.passed if verdict is not None and verdict.is_current else None
    shown = " + ".join([name, *(str(adapter.path) for adapter in opened.plan.adapters)])
    return Analysis(shown, tracer, {"passed": passed, "text": describe(verdict, name)})


def serve_page(models: Sequence[Analysis], start: Start, listening: socket.socket, ready: Callable[[], object]) -> None:
    """Serve the page until Ctrl-C; call `ready` when it answers."""
    config = uvicorn.Config(
        make_app(models, start),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config, ready).run([listening])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a normal exit would wait for an answer in progress


class _Server(uvicorn.Server):
    """Calls a function once it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets)
        self._ready()
