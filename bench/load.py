"""Load a random checkpoint with max-gpt2 and with transformers, in turn, and write docs/log/loading.md."""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

PAGE = Path(__file__).parent.parent / "docs" / "log" / "loading.md"
NAMES = ("max-gpt2", "transformers")
INTRODUCTION = """# Loading

`make bench-load` writes a random checkpoint of a published size and loads it {runs} times with
max-gpt2 and with transformers, in turn, each time in a new process and with the file in the page
cache.

- *Load*: time to load the weights, without imports. max-gpt2 also checks every value for NaN and
  infinity.
- *With first use*: the same plus one sum over all weights. Both memory-map the file, so weights
  are read when they are first used.
- *Peak memory*: peak of the process above its imports, including mapped pages.

Medians, with the minimum and maximum in brackets.

<!-- measured -->

| size | weights | | load | with first use | peak memory |
|---|---|---|---|---|---|
"""


def measure(name: str, folder: str) -> dict[str, float]:
    """Load in this process; return times in seconds and peak memory in bytes."""
    if name == NAMES[0]:
        from max_gpt2.checkpoint import inspect_checkpoint, load_weights
        from max_gpt2.weights.quantise import float32_weights
    else:
        import torch
        import transformers

        torch.set_num_threads(2)
        transformers.utils.logging.disable_progress_bar()
    before = peak_memory()
    started = time.perf_counter()
    if name == NAMES[0]:
        weights = float32_weights(load_weights(inspect_checkpoint(folder)[2], "float32"))
        loaded = time.perf_counter()
        weights.pop("lm_head.weight")  # the same array as wte
        total = sum(float(values.sum()) for values in weights.values())
    else:
        model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
        loaded = time.perf_counter()
        total = sum(float(parameter.detach().sum()) for parameter in model.parameters())
    used = time.perf_counter()
    return {"load_s": loaded - started, "used_s": used - started, "peak_bytes": peak_memory() - before, "sum": total}


def peak_memory() -> int:
    """Return the peak resident memory in bytes; `getrusage` would include the parent's before exec."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


def rows(size: str, runs: int) -> list[str]:
    """Measure one size; return its rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(SIZES[size], Path(folder))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
        for _ in range(runs + 1):  # the first fills the page cache and is discarded
            for name in NAMES:
                command = [sys.executable, "-m", "bench.load", "--measure", name, folder]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ))
                found[name].append(json.loads(done.stdout))
        masks = SIZES[size].n_layer * 4 * SIZES[size].n_positions ** 2
        weights = (Path(folder) / "model.safetensors").stat().st_size - masks
    ours, theirs = (found[name][1:] for name in NAMES)
    lines = [
        [size, f"{weights / 2**30:.2f} GiB", name, *(_seconds(one, key) for key in ("load_s", "used_s")), _gib(one)]
        for name, one in zip(NAMES, (ours, theirs), strict=True)
    ]
    ratios = [_median(ours, key) / _median(theirs, key) for key in ("load_s", "used_s")]
    peak = _median(ours, "peak_bytes") / weights
    lines.append([size, "", "ratio", *(f"{ratio:.2f}" for ratio in ratios), f"{peak:.3f} of the weights"])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _median(found: list[dict[str, float]], key: str) -> float:
    return statistics.median(one[key] for one in found)


def _seconds(found: list[dict[str, float]], key: str) -> str:
    seconds = [one[key] for one in found]
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def _gib(found: list[dict[str, float]]) -> str:
    return f"{_median(found, 'peak_bytes') / 2**30:.2f} GiB"


def main() -> None:
    """Measure the given sizes, print the rows, and write the page if they are the default sizes."""
    default = ["gpt2-large", "gpt2-xl"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=default)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    lines = []
    for size in arguments.sizes:
        lines += rows(size, arguments.runs)
        print("\n".join(lines[-3:]), flush=True)
    if arguments.sizes == default:
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        measured = f"\nMeasured on {datetime.datetime.now(tz=datetime.UTC).date()}: {machine}, PyTorch 2.13.0.\n"
        page = INTRODUCTION.format(runs=arguments.runs) + "\n".join(lines) + "\n" + measured
        PAGE.write_text(page + "\n<!-- /measured -->\n")


if __name__ == "__main__":
    main()
