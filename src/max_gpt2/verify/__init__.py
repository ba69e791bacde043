"""Prove that MAX computes what PyTorch computes."""

from max_gpt2.verify.compare import Comparison, compare, criterion, worst
from max_gpt2.verify.prompts import make_prompts
from max_gpt2.verify.reference import quiet_transformers
from max_gpt2.verify.run import PromptResult, Report, verify

__all__ = [
    "Comparison",
    "PromptResult",
    "Report",
    "compare",
    "criterion",
    "make_prompts",
    "quiet_transformers",
    "verify",
    "worst",
]
