"""GPT-2 on Modular's MAX: loads any pretrained checkpoint exactly, proves it against PyTorch, and writes text."""

import os
from typing import TYPE_CHECKING, Any

# MAX reports usage unless told otherwise, and warns when it cannot. A user's own setting wins.
os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "0")

from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.errors import MaxGPT2Error

if TYPE_CHECKING:
    from max_gpt2.gpt2 import GPT2

__all__ = ["GPT2", "SIZES", "GPT2Config", "MaxGPT2Error"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `GPT2`, and with it MAX, on first use: most commands do not need it."""
    if name == "GPT2":
        from max_gpt2.gpt2 import GPT2

        return GPT2
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
