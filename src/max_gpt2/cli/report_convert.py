"""What `max-gpt2 convert` shows."""

from typing import Any

from max_gpt2.checkpoint.convert import Conversion
from max_gpt2.cli.console import stdout, table
from max_gpt2.cli.report_info import because, explained


def conversion_facts(model: str, done: Conversion) -> dict[str, Any]:
    """Return what `max-gpt2 convert` says, as JSON values."""
    return {
        "model": model,
        "format": done.plan.format,
        "folder": str(done.folder),
        "files": done.files,
        "bytes": sum(done.files.values()),
        "tensors": done.tensors,
        "parameters": done.plan.parameters,
        "dtypes": done.dtypes,
        "head": done.plan.head,
        "transposed": done.transposed,
        "skipped": done.plan.skipped,
        "dequantised": done.plan.dequantised,
        "zero_filled": done.plan.zero_filled,
    }


def show_conversion(facts: dict[str, Any]) -> None:
    """Print the facts of `conversion_facts` as a table."""
    rows = [
        ["folder", facts["folder"]],
        ["files", ", ".join(f"{name} ({size:,})" for name, size in facts["files"].items())],
        ["bytes", f"{facts['bytes']:,}"],
        ["tensors", f"{facts['tensors']}, {', '.join(facts['dtypes'])}"],
        ["parameters", f"{facts['parameters']:,}"],
        ["head", facts["head"]],
        ["transposed", because(facts["transposed"], "Linear weights are stored [out, in], Conv1D [in, out]")],
        ["skipped", explained(facts["skipped"])],
        ["dequantised", explained(facts["dequantised"])],
        ["zero-filled", explained(facts["zero_filled"])],
    ]
    stdout.print(table(("", "left"), (f"{facts['model']} ({facts['format']})", "left"), rows=rows))
