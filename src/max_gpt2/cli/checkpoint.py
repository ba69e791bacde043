"""The checkpoint commands: `max-gpt2 info` and `max-gpt2 convert`."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from max_gpt2.cli.options import (
    Adapters,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Model,
    Tokenizer,
    parse_adapters,
    print_json,
)

if TYPE_CHECKING:
    from max_gpt2.checkpoint import LoadPlan
    from max_gpt2.checkpoint.convert import Conversion
    from max_gpt2.config import GPT2Config


def info(
    model: Model = "demo", adapter: Adapters = None, allow_pickle: AllowPickle = False, as_json: AsJson = False
) -> None:
    """Show a checkpoint's format, config and load plan.

    The weights are not loaded.
    """
    from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint

    values = info_to_dict(
        model, *inspect_checkpoint(model, LoadOptions(allow_pickle=allow_pickle, adapters=parse_adapters(adapter)))
    )
    print_json(values) if as_json else _show_info(values)


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help='"demo", a Hugging Face id, a folder, or a weights file.')
    ],
    target: Annotated[str, typer.Argument(metavar="DST", help="The folder to write. It must not exist.")],
    force: Annotated[bool, typer.Option("--force", help="Replace DST if it is empty or a GPT-2 checkpoint.")] = False,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Convert a checkpoint of any format to Hugging Face safetensors.

    The weights keep their values bit for bit.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.checkpoint.convert import convert as run_conversion
    from max_gpt2.cli.console import byte_bar

    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, adapters=parse_adapters(adapter))
    with byte_bar("Writing the weights") as progress:
        conversion = run_conversion(source, target, options, force=force, progress=progress)
    values = conversion_to_dict(source, conversion)
    print_json(values) if as_json else _show_conversion(values)


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
        "tied": plan.tied,
        "head": plan.head,
        "transposed": plan.transposed,
        "skipped": plan.skipped,
        "upcast": plan.upcast,
        "dequantised": plan.dequantised,
        "zero_filled": plan.zero_filled,
        "adapters": [{"folder": str(one.path), "scale": one.scale} for one in plan.adapters],
        "merged": plan.merged,
    }


def _show_info(values: dict[str, Any]) -> None:
    from max_gpt2.cli.console import stdout, table

    rows = [[name, str(value)] for name, value in values["config"].items()]
    rows += [["", f"{name} has no effect: everything is computed in float32"] for name in values["no_effect"]]
    rows += [
        ["parameters", f"{values['parameters']:,} ({values['float32_bytes'] / 1e6:.0f} MB in float32)"],
        ["format", values["format"]],
        ["stored as", ", ".join(values["stored_dtypes"])],
        ["head", values["head"]],
        ["transposed", summarize(values["transposed"], "stored [out, in] as in Linear, used as [in, out]")],
        ["skipped", summarize_reasons(values["skipped"])],
        ["upcast", summarize(values["upcast"], "converted exactly to float32")],
        ["dequantised", summarize_reasons(values["dequantised"])],
        ["zero-filled", summarize_reasons(values["zero_filled"])],
        *([["adapters", _adapters(values)]] if values["adapters"] else []),
    ]
    stdout.print(table(("", "left"), (values["model"], "left"), rows=rows))


def conversion_to_dict(model: str, conversion: "Conversion") -> dict[str, Any]:
    """Return the output of `max-gpt2 convert` as JSON values."""
    plan = conversion.plan
    return {
        "model": model,
        "format": plan.format,
        "folder": str(conversion.folder),
        "files": conversion.files,
        "bytes": sum(conversion.files.values()),
        "tensors": conversion.tensors,
        "parameters": plan.parameters,
        "dtypes": conversion.dtypes,
        "head": plan.head,
        "transposed": conversion.transposed,
        "skipped": plan.skipped,
        "dequantised": plan.dequantised,
        "zero_filled": plan.zero_filled,
        "adapters": [{"folder": str(one.path), "scale": one.scale} for one in plan.adapters],
        "merged": plan.merged,
    }


def _show_conversion(values: dict[str, Any]) -> None:
    from max_gpt2.cli.console import stdout, table

    rows = [
        ["folder", values["folder"]],
        ["files", ", ".join(f"{name} ({size:,})" for name, size in values["files"].items())],
        ["bytes", f"{values['bytes']:,}"],
        ["tensors", f"{values['tensors']}, {', '.join(values['dtypes'])}"],
        ["parameters", f"{values['parameters']:,}"],
        ["head", values["head"]],
        ["transposed", summarize(values["transposed"], "Linear weights are stored [out, in], Conv1D [in, out]")],
        ["skipped", summarize_reasons(values["skipped"])],
        ["dequantised", summarize_reasons(values["dequantised"])],
        ["zero-filled", summarize_reasons(values["zero_filled"])],
        *([["adapters", _adapters(values)]] if values["adapters"] else []),
    ]
    stdout.print(table(("", "left"), (f"{values['model']} ({values['format']})", "left"), rows=rows))


def _adapters(values: Mapping[str, Any]) -> str:
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
