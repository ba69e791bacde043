"""GPT-2 on Modular's MAX: loads any pretrained checkpoint exactly, proves it against PyTorch, and writes text."""

import os

# MAX reports usage unless told otherwise, and warns when it cannot. A user's own setting wins.
os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "0")

from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.errors import MaxGPT2Error

__all__ = ["SIZES", "GPT2Config", "MaxGPT2Error"]
__version__ = "0.1.0"
