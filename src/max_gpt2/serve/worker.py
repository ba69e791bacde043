"""MAX's server as `max-gpt2 serve` starts it: `python -m max_gpt2.serve.worker serve ...`, without PyTorch.

transformers, of which MAX reads configs and tokenizers with, imports PyTorch wherever it is installed: seconds and
hundreds of megabytes for nothing, in each of the server's processes. These import this module again before all else.
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
