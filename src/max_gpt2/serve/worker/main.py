"""Runs MAX's server without PyTorch: `python -m max_gpt2.serve.worker.main serve ...`.

MAX reads configs and tokenizers with transformers, which imports PyTorch if it is installed: seconds and hundreds of
megabytes in each of the server's processes. The processes that MAX spawns import this module again before anything
else. That is why it is not `__main__.py`: multiprocessing does not import a module of that name again.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_modules.setdefault("torch", None)  # what is None here counts as not installed


def main() -> Any:
    """Carry out what MAX's own command would."""
    from max._entrypoints.pipelines import main as max_main

    return max_main()


if __name__ == "__main__":
    sys.exit(main())
