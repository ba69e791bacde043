"""Prove that MAX computes what PyTorch computes, and show where two models part."""

from max_gpt2.verify.compare import Difference, LogitsDifference, compare, compare_logits, worst
from max_gpt2.verify.html import render
from max_gpt2.verify.models import Answer, make_prompts, quiet_transformers
from max_gpt2.verify.report import Place, PromptResult, Report
from max_gpt2.verify.verify import verify

__all__ = [
    "Answer",
    "Difference",
    "LogitsDifference",
    "Place",
    "PromptResult",
    "Report",
    "compare",
    "compare_logits",
    "make_prompts",
    "quiet_transformers",
    "render",
    "verify",
    "worst",
]
