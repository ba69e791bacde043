"""Prove that MAX computes what PyTorch computes, and show where two models part."""

from max_gpt2.verify.answer import Answer
from max_gpt2.verify.compare import Difference, LogitsDifference, compare, compare_logits, worst
from max_gpt2.verify.page import render
from max_gpt2.verify.prompts import make_prompts
from max_gpt2.verify.reference import quiet_transformers
from max_gpt2.verify.report import Place, PromptResult, Report
from max_gpt2.verify.run import verify

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
