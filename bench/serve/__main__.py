"""Benchmark `max-gpt2 serve` on a random checkpoint; write docs/log/serving.json and docs/log/serving.png.

`python -m bench.serve --llama-server PROGRAM` also benchmarks llama.cpp's server with the same weights, and
`--beside NAME=PORT` (repeatable) a server that is already running.
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

from bench.page_cache import evict
from bench.serve.load import Load, Shape, closed, opened
from bench.serve.plot import plot
from bench.serve.server import NAME, serving, serving_llama_cpp, write_gguf
from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

LOG = Path(__file__).parent.parent.parent / "docs" / "log"
OURS = "max-gpt2"
LLAMA_CPP = "llama.cpp"
SHORT, LONG = Shape(16, 64), Shape(400, 16)
#: Closed loads: the number of clients, and the shape of their requests.
CLOSED = [(1, SHORT), (8, SHORT), (32, SHORT), (8, LONG), (8, Shape(400, 16, shared=384))]
#: Context per sequence of llama.cpp's server: the default cache of max-gpt2 holds as much.
CONTEXT = 512
#: Requests per second.
RATES = [0.25, 0.5, 1.0, 2.0, 4.0]


def summary(load: Load) -> dict[str, float]:
    """Summarize a streaming load in tokens per second and milliseconds."""
    first = [1000 * answer.first for answer in load.answers if answer.times]
    between = [1000 * gap for answer in load.answers for gap in answer.between]
    return {
        "tokens_per_s": load.throughput,
        "first_p50_ms": load.quantile(first, 0.5),
        "first_p99_ms": load.quantile(first, 0.99),
        "between_p50_ms": load.quantile(between, 0.5),
        "between_p99_ms": load.quantile(between, 0.99),
    }


async def measure(servers: Mapping[str, int], runs: int, seconds: float) -> dict[str, Any]:
    """Send the same load to every server in turn; the first round is a warm-up."""
    found: dict[str, Any] = {"closed": [], "open": []}
    for clients, shape in CLOSED:
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for repeat in range(runs + 1):
            for name, port in servers.items():
                load = await closed(port, NAME, shape, clients, clients if clients > 1 else 2, seed=repeat)
                if repeat:
                    rates[name].append(load.throughput)
        row = {"clients": clients, "prompt": shape.prompt, "new": shape.new, "shared": shape.shared}
        found["closed"].append(row | {name: median(values) for name, values in rates.items()})
        print(found["closed"][-1], flush=True)
    for rate in RATES:
        for name, port in servers.items():
            load = await opened(port, NAME, SHORT, rate, seconds)
            found["open"].append({"rate": rate, "implementation": name} | summary(load))
            print(found["open"][-1], flush=True)
    return found


def main() -> None:
    """Run the benchmark and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="gpt2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="Duration of each open load.")
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM", help="The llama-server program.")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=PORT")
    parser.add_argument("--folder", type=Path, help="Use this checkpoint.")
    arguments = parser.parse_args()
    others = {name: int(port) for name, _, port in (one.rpartition("=") for one in arguments.beside)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / arguments.size
        if not arguments.folder:
            write_checkpoint(SIZES[arguments.size], folder)
        file = Path(temporary) / "gpt2.gguf"
        if arguments.llama_server:
            write_gguf(folder, file)
        evict(Path(temporary))
        empty = Path(temporary) / "cache"
        with serving(folder, arguments.batch, {"MODULAR_MAX_CACHE_DIR": str(empty)}) as cold:
            starts = {"cold_s": cold.ready_s}
        with serving(folder, arguments.batch):
            pass
        with ExitStack() as running:
            servers = {OURS: running.enter_context(serving(folder, arguments.batch))}
            if arguments.llama_server:
                servers[LLAMA_CPP] = running.enter_context(
                    serving_llama_cpp(arguments.llama_server, file, arguments.batch, CONTEXT)
                )
            starts["warm_s"] = servers[OURS].ready_s
            print(starts, flush=True)
            ports = {name: server.port for name, server in servers.items()} | others
            found = asyncio.run(measure(ports, arguments.runs, arguments.seconds))
            found |= starts | {"peak_bytes": {name: list(s.peak_bytes().values()) for name, s in servers.items()}}
    (LOG / "serving.json").write_text(json.dumps(found, indent=2) + "\n")
    plot(LOG / "serving.png", found["open"])


if __name__ == "__main__":
    main()
