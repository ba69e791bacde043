"""Prove that MAX computes what PyTorch computes."""

from max_gpt2.verify.compare import Comparison, compare, criterion, worst
from max_gpt2.verify.prompts import make_prompts
from max_gpt2.verify.run import Report, verify

__all__ = ["Comparison", "Report", "compare", "criterion", "make_prompts", "verify", "worst"]
