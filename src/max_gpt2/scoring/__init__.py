"""Surprisal, perplexity and the benchmarks that use them."""

from max_gpt2.model.scoring import NO_TARGET, TokenScores, Window
from max_gpt2.scoring.options import MAX_TOP, Base, ScoreKeywords, ScoreOptions, Unit
from max_gpt2.scoring.run import score_texts, tokenize_text
from max_gpt2.scoring.score import Alternative, Score, UnitScore, perplexity
from max_gpt2.scoring.scorer import Scorer, load_scorer
from max_gpt2.scoring.windows import check_window, context_lengths, sliding_windows

__all__ = [
    "MAX_TOP",
    "NO_TARGET",
    "Alternative",
    "Base",
    "Score",
    "ScoreKeywords",
    "ScoreOptions",
    "Scorer",
    "TokenScores",
    "Unit",
    "UnitScore",
    "Window",
    "check_window",
    "context_lengths",
    "load_scorer",
    "perplexity",
    "score_texts",
    "sliding_windows",
    "tokenize_text",
]
