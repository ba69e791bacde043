"""GPT-2 on Modular's MAX: load any pretrained checkpoint exactly, verify it against PyTorch, and generate text."""

import os
from typing import TYPE_CHECKING, Any

# By default, MAX sends telemetry, and warns when it cannot. The user's own setting takes precedence.
os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "0")

from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.errors import MaxGPT2Error

if TYPE_CHECKING:
    from max_gpt2.gpt2 import GPT2

__all__ = ["GPT2", "SIZES", "GPT2Config", "MaxGPT2Error"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `GPT2` on first use: it imports MAX, which most commands do not need."""
    if name == "GPT2":
        from max_gpt2.gpt2 import GPT2

        return GPT2
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
