"""The command `max-gpt2 info`, and summaries of lists of tensors."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from max_gpt2.cli.options import (
    DEFAULT_WEIGHTS,
    Adapters,
    AllowPickle,
    AsJson,
    Model,
    WhichWeights,
    parse_adapters,
    print_json,
)

if TYPE_CHECKING:
    from max_gpt2.checkpoint import LoadPlan
    from max_gpt2.config import GPT2Config


def info(
    model: Model = "demo",
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Show a checkpoint's format, config and load plan.

    The weights are not loaded.
    """
    from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint

    options = LoadOptions(allow_pickle=allow_pickle, adapters=parse_adapters(adapter), weights=weights)
    values = info_to_dict(model, *inspect_checkpoint(model, options))
    print_json(values) if as_json else _show_info(values)


def info_to_dict(model: str, folder: Path, config: "GPT2Config", plan: "LoadPlan") -> dict[str, Any]:
    """Return the output of `max-gpt2 info` as JSON values."""
    return {
        "model": model,
        "folder": str(folder),
        "format": plan.format,
        "config": asdict(config) | {"n_inner": config.intermediate_size},
        "no_effect": ["reorder_and_upcast_attn"] if config.reorder_and_upcast_attn else [],
        "parameters": plan.parameters,
        "float32_bytes": 4 * plan.parameters,
        "stored_dtypes": plan.dtypes,
        "stored_bytes": plan.stored_bytes,
        "memory_dtypes": sorted(set(plan.types.values())),
        "memory_bytes": plan.memory_bytes,
        "tied": plan.tied,
        "head": plan.head,
        "transposed": plan.transposed,
        "skipped": plan.skipped,
        "upcast": plan.upcast,
        "dequantised": plan.dequantised,
        "rounded": plan.rounded,
        "zero_filled": plan.zero_filled,
        "adapters": [{"folder": str(one.path), "scale": one.scale} for one in plan.adapters],
        "merged": plan.merged,
    }


def _size(count: int) -> str:
    return f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"


def _show_info(values: dict[str, Any]) -> None:
    from max_gpt2.cli.console import stdout, table

    rows = [[name, str(value)] for name, value in values["config"].items()]
    rows += [["", f"{name} has no effect: everything is computed in float32"] for name in values["no_effect"]]
    rows += [
        ["parameters", f"{values['parameters']:,} ({_size(values['float32_bytes'])} in float32)"],
        ["format", values["format"]],
        ["stored as", f"{', '.join(values['stored_dtypes'])} ({_size(values['stored_bytes'])})"],
        ["in memory", f"{', '.join(values['memory_dtypes'])} ({_size(values['memory_bytes'])})"],
        ["head", values["head"]],
        ["transposed", summarize(values["transposed"], "stored [out, in] as in Linear, used as [in, out]")],
        ["skipped", summarize_reasons(values["skipped"])],
        ["upcast", summarize(values["upcast"], "converted exactly to float32")],
        ["dequantised", summarize_reasons(values["dequantised"])],
        *([["rounded", summarize_reasons(values["rounded"])]] if values["rounded"] else []),
        ["zero-filled", summarize_reasons(values["zero_filled"])],
        *([["adapters", describe_adapters(values)]] if values["adapters"] else []),
    ]
    stdout.print(table(("", "left"), (values["model"], "left"), rows=rows))


def describe_adapters(values: Mapping[str, Any]) -> str:
    """Return the adapters' folders and scales, and the names of the tensors that they change."""
    folders = ", ".join(f"{one['folder']} (scale {one['scale']:g})" for one in values["adapters"])
    return f"{folders}, merged into {summarize_names(values['merged'])}"


def summarize_names(names: list[str]) -> str:
    """Return the number of tensors and up to four name patterns, such as "24: h.*.attn.c_attn.weight, ..."."""
    patterns = list(dict.fromkeys(re.sub(r"\bh\.\d+\.", "h.*.", name) for name in names))
    dots = ", ..." if len(patterns) > 4 else ""
    return f"{len(names)}: {', '.join(patterns[:4])}{dots}" if names else "none"


def summarize_reasons(reasons: Mapping[str, str]) -> str:
    """Return the summary of tensor names, each with its own reason."""
    return summarize_names([f"{name} ({reason})" for name, reason in reasons.items()])


def summarize(names: list[str], reason: str) -> str:
    """Return the summary of tensor names that share one reason."""
    return f"{summarize_names(names)} ({reason})" if names else "none"
