"""Check that MAX and PyTorch compute the same numbers, and locate the first divergence of two models."""

from max_gpt2.verify.compare import Difference, LogitsDifference, compare, compare_logits, worst
from max_gpt2.verify.html import render
from max_gpt2.verify.models import ModelOutputs, quiet_transformers
from max_gpt2.verify.prompts import make_prompts
from max_gpt2.verify.report import Probe, PromptResult, Report
from max_gpt2.verify.verify import verify

__all__ = [
    "Difference",
    "LogitsDifference",
    "ModelOutputs",
    "Probe",
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
