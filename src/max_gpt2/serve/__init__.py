"""GPT-2 in MAX's own server: `max serve --custom-architectures max_gpt2.serve --model-path FOLDER`.

Importing this package is cheap: MAX's modules are imported only when MAX reads `ARCHITECTURES`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Return `ARCHITECTURES`, the list in which MAX looks up the architectures of a module."""
    if name != "ARCHITECTURES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from max_gpt2.serve.worker.architecture import GPT2

    return [GPT2]
