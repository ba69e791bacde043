"""Runs MAX's server without PyTorch: `python -m max_gpt2.serve.worker.main serve ...`.

MAX reads configs and tokenizers with transformers, which imports PyTorch if it is installed. That costs seconds and
hundreds of megabytes in each process of the server. The processes that MAX spawns import this module before anything
else, which is why it is not `__main__.py`: multiprocessing does not reimport a module of that name.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_modules.setdefault("torch", None)  # None makes `import torch` fail, as if it were not installed


def main() -> Any:
    """Run the command line of MAX's `max`."""
    from max._entrypoints.pipelines import main as max_main

    return max_main()


if __name__ == "__main__":
    sys.exit(main())
