"""What `max-gpt2 info` shows."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from max_gpt2.checkpoint import LoadPlan
from max_gpt2.cli.console import stdout, table
from max_gpt2.config import GPT2Config


def info_facts(model: str, folder: Path, config: GPT2Config, plan: LoadPlan) -> dict[str, Any]:
    """Return what `max-gpt2 info` says, as JSON values."""
    return {
        "model": model,
        "folder": str(folder),
        "format": plan.format,
        "config": asdict(config) | {"n_inner": config.intermediate_size},
        "no_effect": ["reorder_and_upcast_attn"] if config.reorder_and_upcast_attn else [],
        "parameters": plan.parameters,
        "float32_bytes": 4 * plan.parameters,
        "stored_dtypes": plan.dtypes,
        "tied": plan.tied,
        "head": plan.head,
        "transposed": plan.transposed,
        "skipped": plan.skipped,
        "upcast": plan.upcast,
        "dequantised": plan.dequantised,
        "zero_filled": plan.zero_filled,
    }


def show_info(facts: dict[str, Any]) -> None:
    """Print the facts of `info_facts` as a table."""
    rows = [[name, str(value)] for name, value in facts["config"].items()]
    rows += [["", f"{name} has no effect: all is computed in float32"] for name in facts["no_effect"]]
    rows += [
        ["parameters", f"{facts['parameters']:,} ({facts['float32_bytes'] / 1e6:.0f} MB in float32)"],
        ["format", facts["format"]],
        ["stored as", ", ".join(facts["stored_dtypes"])],
        ["head", facts["head"]],
        ["transposed", because(facts["transposed"], "stored [out, in], as Linear has them, and used [in, out]")],
        ["skipped", explained(facts["skipped"])],
        ["upcast", because(facts["upcast"], "made float32, which holds each value exactly")],
        ["dequantised", explained(facts["dequantised"])],
        ["zero-filled", explained(facts["zero_filled"])],
    ]
    stdout.print(table(("", "left"), (facts["model"], "left"), rows=rows))


def counted(names: list[str]) -> str:
    """Return how many names there are and what they are, a star for the layers: "24: h.*.attn.c_attn.weight, ..."."""
    patterns = list(dict.fromkeys(re.sub(r"\bh\.\d+\.", "h.*.", name) for name in names))
    dots = ", ..." if len(patterns) > 4 else ""
    return f"{len(names)}: {', '.join(patterns[:4])}{dots}" if names else "none"


def explained(reasons: Mapping[str, str]) -> str:
    """Return how many names there are and what they are, each with its reason."""
    return counted([f"{name} ({reason})" for name, reason in reasons.items()])


def because(names: list[str], reason: str) -> str:
    """Return how many names there are and what they are, with the reason that all of them share."""
    return f"{counted(names)} ({reason})" if names else "none"
