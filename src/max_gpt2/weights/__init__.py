"""Types of weights: as they are stored in files, and as the kernels read them."""

from max_gpt2.weights.quantise import float32
from max_gpt2.weights.types import CONV1D, LM_HEAD, PANEL, TYPES, WPE, WTE, Quantised, Weight, Weights

__all__ = ["CONV1D", "LM_HEAD", "PANEL", "TYPES", "WPE", "WTE", "Quantised", "Weight", "Weights", "float32"]
