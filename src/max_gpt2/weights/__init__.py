"""Types of weights: as they are stored in files, and as the kernels read them."""

from max_gpt2.weights.types import PANEL, TYPES, Quantised, Weight, Weights

__all__ = ["PANEL", "TYPES", "Quantised", "Weight", "Weights"]
