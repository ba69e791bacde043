"""Surprisal, perplexity and the benchmarks that use them."""

from max_gpt2.model.scoring import NO_TARGET, TokenScores, Window
from max_gpt2.scoring.scorer import Scorer, load_scorer
from max_gpt2.scoring.windows import check_window, context_lengths, sliding_windows

__all__ = [
    "NO_TARGET",
    "Scorer",
    "TokenScores",
    "Window",
    "check_window",
    "context_lengths",
    "load_scorer",
    "sliding_windows",
]
