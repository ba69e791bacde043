"""Run a number of cases with a new seed, print the outcomes and save the damaged files of the findings: `make fuzz`."""

import argparse
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.fuzz.runner import Fuzzer


def main() -> int:
    """Run the cases; return 1 if there are findings, else 0."""
    parser = argparse.ArgumentParser(description="Load damaged checkpoints.")
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="max-gpt2-fuzz-"))
    print(f"seed {arguments.seed}, in {folder}", flush=True)
    start = time.monotonic()
    fuzzer = Fuzzer(folder, partial(print, flush=True))
    fuzzer.run(arguments.cases, arguments.seed)
    fuzzer.close()
    print(f"{fuzzer.report()}\n{time.monotonic() - start:.0f} s")
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
