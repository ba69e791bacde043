"""Verify random checkpoints of the four published sizes one by one, and write docs/sizes.md."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from max_gpt2.config import SIZES
from tools.make_checkpoint import write_checkpoint

PAGE = Path(__file__).parent.parent / "docs" / "sizes.md"
INTRODUCTION = """# The four sizes

`make verify-sizes` writes a random checkpoint of each published size, in the published layout,
and runs [`max-gpt2 verify`](verification.md) on it. PyTorch runs first and is freed before MAX
loads. The times are those of one run with an empty compile cache; the memory is the peak of the
whole process, PyTorch included. `make test` does not include these sizes.

<!-- measured -->

"""


def verify(size: str) -> dict[str, Any]:
    """Verify one size in a separate process; return its report with `file_bytes` added."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(SIZES[size], Path(folder))
        weights = (Path(folder) / "model.safetensors").stat().st_size
        command = [sys.executable, "-m", "max_gpt2", "verify", "--model", folder, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ), check=False)
    return json.loads(done.stdout) | {"file_bytes": weights}


def row(size: str, report: dict[str, Any]) -> str:
    """Return a row of the table."""
    timing = report["timing"]
    cells = [
        f"`{size}`",
        f"{report['file_bytes'] / 2**30:.2f} GiB",
        f"{report['max_abs_diff']:.1e}",
        f"{report['argmax_agreement']:.2%}",
        "yes" if report["greedy_match"] else "no",
        f"{timing['load_s']:.1f} s",
        f"{timing['compile_s']:.0f} s",
        f"{report['peak_memory_bytes'] / 2**30:.1f} GiB",
        "equal" if report["passed"] else "NOT EQUAL",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Verify the selected sizes and print the table; write the page if all are selected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=list(SIZES))
    sizes: list[str] = parser.parse_args().sizes
    lines = [
        "| size | file | largest difference | same argmax | same greedy text | load | compile | peak memory | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    passed = True
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # an empty compile cache, to measure full compilation
        for size in sizes:
            report = verify(size)
            passed = passed and report["passed"]
            lines.append(row(size, report))
            print(lines[-1], flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    measured = (
        f"\nMeasured on {datetime.datetime.now(tz=datetime.UTC).date()}: {machine}, MAX 26.7.0, PyTorch 2.13.0.\n"
    )
    if sizes == list(SIZES):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(INTRODUCTION + "\n".join(lines) + "\n" + measured + "\n<!-- /measured -->\n")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
