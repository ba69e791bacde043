"""Run one implementation: `python bench/worker.py IMPLEMENTATION FOLDER`, in an environment with its packages only.

Each line on standard input is a request, {"prompts": [[id, ...], ...], "new": N}: generate N tokens greedily for every
prompt, ignoring end-of-text. All prompts have the same length. Each line on standard output is an answer.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Load the model and answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep output of libraries out of the answers
    implementation, folder = sys.argv[1:]
    generate = importlib.import_module(f"implementations.{implementation}").load(folder)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        tokens = generate(request["prompts"], request["new"])
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "tokens": tokens, "peak_bytes": _peak()}), file=answers, flush=True)


def _peak() -> int:
    """Return the peak resident memory in bytes; `getrusage` would include the parent's before exec."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
