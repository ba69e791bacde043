"""Measure `max-gpt2 serve` on a random checkpoint of a published size; writes docs/serving.json and docs/serving.png.

`python -m bench.serve`; with `--llama-server PROGRAM` llama.cpp's server is started with the same weights and asked for
the same, and with `--beside NAME=PORT`, once or more, servers that run already.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.gguf_file import write_gguf
from bench.serve.load import Load, Shape, closed, opened
from bench.serve.plot import plot
from bench.serve.server import NAME, serving, serving_llama_cpp
from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

DOCS = Path(__file__).parent.parent.parent / "docs"
OURS = "max-gpt2"
LLAMA_CPP = "llama.cpp"
SHORT, LONG = Shape(16, 64), Shape(400, 16)
#: What is asked of each server in turn: the clients, and what they send.
CLOSED = [(1, SHORT), (8, SHORT), (32, SHORT), (8, LONG), (8, Shape(400, 16, shared=384))]
#: The tokens that llama.cpp's server gets room for in each text: what ours has by default.
ROOM = 512
#: Requests a second.
RATES = [0.25, 0.5, 1.0, 2.0, 4.0]


def figures(load: Load) -> dict[str, float]:
    """Return what a table says of a load with streaming, in tokens per second and milliseconds."""
    first = [1000 * answer.first for answer in load.answers if answer.times]
    between = [1000 * gap for answer in load.answers for gap in answer.between]
    return {
        "tokens_per_s": load.throughput,
        "first_p50_ms": load.quantile(first, 0.5),
        "first_p99_ms": load.quantile(first, 0.99),
        "between_p50_ms": load.quantile(between, 0.5),
        "between_p99_ms": load.quantile(between, 0.99),
    }


async def measure(sides: Mapping[str, int], runs: int, seconds: float) -> dict[str, Any]:
    """Ask every server for the same, in turn; the first turn only warms up."""
    found: dict[str, Any] = {"closed": [], "open": []}
    for clients, shape in CLOSED:
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(runs + 1):
            for name, port in sides.items():
                load = await closed(port, NAME, shape, clients, clients if clients > 1 else 2, seed=turn)
                if turn:
                    rates[name].append(load.throughput)
        row = {"clients": clients, "prompt": shape.prompt, "new": shape.new, "shared": shape.shared}
        found["closed"].append(row | {name: median(values) for name, values in rates.items()})
        print(found["closed"][-1], flush=True)
    for rate in RATES:
        for name, port in sides.items():
            load = await opened(port, NAME, SHORT, rate, seconds)
            found["open"].append({"rate": rate, "side": name} | figures(load))
            print(found["open"][-1], flush=True)
    return found


def main() -> None:
    """Measure, print, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="gpt2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="How long requests come in at each rate.")
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM", help="llama.cpp's server.")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=PORT")
    parser.add_argument("--folder", type=Path, help="A checkpoint that is there already.")
    arguments = parser.parse_args()
    sides = {name: int(port) for name, _, port in (one.rpartition("=") for one in arguments.beside)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / arguments.size
        if not arguments.folder:
            write_checkpoint(SIZES[arguments.size], folder)
        empty = Path(temporary) / "cache"
        with serving(folder, arguments.batch, {"MODULAR_MAX_CACHE_DIR": str(empty)}) as cold:
            starts = {"cold_s": cold.ready_s}
        with serving(folder, arguments.batch):
            pass
        with ExitStack() as running:
            servers = {OURS: running.enter_context(serving(folder, arguments.batch))}
            if arguments.llama_server:
                file = Path(temporary) / "gpt2.gguf"
                write_gguf(folder, file)
                servers[LLAMA_CPP] = running.enter_context(
                    serving_llama_cpp(arguments.llama_server, file, arguments.batch, ROOM)
                )
            starts["warm_s"] = servers[OURS].ready_s
            print(starts, flush=True)
            ports = {name: server.port for name, server in servers.items()} | sides
            found = asyncio.run(measure(ports, arguments.runs, arguments.seconds))
            found |= starts | {"peak_bytes": {name: list(s.peak_bytes().values()) for name, s in servers.items()}}
    (DOCS / "serving.json").write_text(json.dumps(found, indent=2) + "\n")
    plot(DOCS / "serving.png", found["open"])


if __name__ == "__main__":
    main()
