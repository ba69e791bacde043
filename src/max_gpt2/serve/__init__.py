"""GPT-2 in MAX's own server: `max serve --custom-architectures max_gpt2.serve --model-path FOLDER`.

Importing this is cheap: MAX's half of it is only imported when MAX asks for `ARCHITECTURES`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Return `ARCHITECTURES`, by whose name MAX finds what a module brings."""
    if name != "ARCHITECTURES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from max_gpt2.serve.worker.architecture import GPT2

    return [GPT2]
