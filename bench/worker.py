"""A side in a process of its own: `python bench/worker.py SIDE FOLDER`, with only what that side needs installed.

Each line on standard input is a request, {"prompts": [[id, ...], ...], "new": N}: continue all prompts, which are of
one length, by N ids, the likeliest each time, whatever they are. Each line on standard output is the answer.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Load, say so, and answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    side, folder = sys.argv[1:]
    generate = importlib.import_module(f"sides.{side}").load(folder)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        tokens = generate(request["prompts"], request["new"])
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "tokens": tokens, "peak_bytes": _peak()}), file=answers, flush=True)


def _peak() -> int:
    """Return the most bytes that this process has taken; `getrusage` would count what its parent took before it."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
