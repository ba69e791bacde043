"""The command `max-gpt2 convert`: write a checkpoint as a Hugging Face folder or as a GGUF file."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from max_gpt2.cli.checkpoint import describe_adapters, summarize, summarize_reasons
from max_gpt2.cli.options import (
    Adapters,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Tokenizer,
    parse_adapters,
    print_json,
)
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.checkpoint import LoadPlan
    from max_gpt2.checkpoint.convert import Conversion
    from max_gpt2.checkpoint.gguf_convert import GGUFConversion


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help='"demo", a Hugging Face id, a folder, or a weights file.')
    ],
    target: Annotated[str, typer.Argument(metavar="DST", help="The folder or file to write. It must not exist.")],
    to: Annotated[
        Literal["safetensors", "gguf"],
        typer.Option("--to", help="Write a Hugging Face folder, or one GGUF file for llama.cpp."),
    ] = "safetensors",
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Type of the matrices in GGUF: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0; default: those of SRC.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace DST if it is empty, a GPT-2 checkpoint, or a GGUF file.")
    ] = False,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Convert a checkpoint to safetensors or GGUF.

    The weights keep their values bit for bit, unless --type is narrower than they are.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.checkpoint.convert import convert as run_conversion
    from max_gpt2.checkpoint.gguf_convert import convert_to_gguf
    from max_gpt2.cli.console import byte_bar

    if to == "safetensors" and type_ is not None:
        raise RequestError("--type needs --to gguf. Add it, or remove --type.")
    if to == "safetensors" and target.endswith(".gguf"):
        raise RequestError(f"{target} ends in .gguf. Add --to gguf to write a GGUF file, or give the name of a folder.")
    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, adapters=parse_adapters(adapter))
    with byte_bar("Writing the weights") as progress:
        if to == "gguf":
            written = convert_to_gguf(source, target, type_, options, force=force, progress=progress)
            values = gguf_to_dict(source, written)
            show = _show_gguf
        else:
            conversion = run_conversion(source, target, options, force=force, progress=progress)
            values = conversion_to_dict(source, conversion)
            show = _show_conversion
    print_json(values) if as_json else show(values)


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
    } | _plan_to_dict(plan)


def gguf_to_dict(model: str, conversion: "GGUFConversion") -> dict[str, Any]:
    """Return the output of `max-gpt2 convert --to gguf` as JSON values."""
    plan = conversion.plan
    return {
        "model": model,
        "format": plan.format,
        "file": str(conversion.file),
        "bytes": conversion.bytes,
        "type": conversion.type,
        "types": conversion.types,
        "other_types": conversion.reasons,
        "notes": conversion.notes,
        "parameters": plan.parameters,
        "head": plan.head,
    } | (_plan_to_dict(plan) | {"dequantised": conversion.dequantised})


def _plan_to_dict(plan: "LoadPlan") -> dict[str, Any]:
    return {
        "skipped": plan.skipped,
        "dequantised": plan.dequantised,
        "zero_filled": plan.zero_filled,
        "adapters": [{"folder": str(one.path), "scale": one.scale} for one in plan.adapters],
        "merged": plan.merged,
    }


def _show_conversion(values: dict[str, Any]) -> None:
    _show(
        values,
        ["folder", values["folder"]],
        ["files", ", ".join(f"{name} ({size:,})" for name, size in values["files"].items())],
        ["bytes", f"{values['bytes']:,}"],
        ["tensors", f"{values['tensors']}, {', '.join(values['dtypes'])}"],
        ["parameters", f"{values['parameters']:,}"],
        ["head", values["head"]],
        ["transposed", summarize(values["transposed"], "Linear weights are stored [out, in], Conv1D [in, out]")],
    )


def _show_gguf(values: dict[str, Any]) -> None:
    counts = Counter(values["types"].values())
    other = {f"{name}, {values['types'][name]}": reason for name, reason in values["other_types"].items()}
    _show(
        values,
        ["file", values["file"]],
        ["bytes", f"{values['bytes']:,}"],
        ["tensors", f"{len(values['types'])}: {', '.join(f'{count} {type_}' for type_, count in counts.items())}"],
        ["parameters", f"{values['parameters']:,}"],
        ["head", values["head"]],
        ["other types", summarize_reasons(other)],
        *(["note", note] for note in values["notes"]),
    )


def _show(values: dict[str, Any], *rows: list[str]) -> None:
    from max_gpt2.cli.console import stdout, table

    shared = [
        ["skipped", summarize_reasons(values["skipped"])],
        ["dequantised", summarize_reasons(values["dequantised"])],
        ["zero-filled", summarize_reasons(values["zero_filled"])],
        *([["adapters", describe_adapters(values)]] if values["adapters"] else []),
    ]
    stdout.print(table(("", "left"), (f"{values['model']} ({values['format']})", "left"), rows=[*rows, *shared]))
