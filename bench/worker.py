"""Run one implementation in an environment with its packages only.

`python bench/worker.py IMPLEMENTATION LOADER FOLDER` calls the function LOADER of the module, such as `load`.
Each line on standard input is a request. For `load` it is {"prompts": [[id, ...], ...], "new": N}: generate N tokens
greedily for every prompt, ignoring end-of-text. For `load_scorer` it is {"texts": [[id, ...], ...]}: return the
logprobs of all ids of every text but the first. For `load_tracer` it is {"ids": [id, ...], "what": W, "save": FILE}:
see `Process.trace`. All prompts or texts have the same length. Each line on standard output
is an answer.
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
    implementation, loader, folder = sys.argv[1:]
    call = getattr(importlib.import_module(f"implementations.{implementation}"), loader)(folder)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        output = call(**request)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "output": output, "peak_bytes": _peak()}), file=answers, flush=True)


def _peak() -> int:
    """Return the peak resident memory in bytes; `getrusage` would include the parent's before exec."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
