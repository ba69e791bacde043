"""How the command line shows its results: as tables for people, as one JSON object for programs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from max_gpt2.checkpoint import LoadPlan
from max_gpt2.config import GPT2Config
from max_gpt2.console import numeric, stderr, stdout, table
from max_gpt2.convert import Conversion
from max_gpt2.generation import OneShot
from max_gpt2.verify import Comparison, PromptResult, Report, criterion, worst


def info_facts(model: str, folder: Path, config: GPT2Config, plan: LoadPlan) -> dict[str, Any]:
    """Return what `max-gpt2 info` says, as JSON values."""
    return {
        "model": model,
        "folder": str(folder),
        "format": plan.format,
        "config": asdict(config) | {"n_inner": config.intermediate_size},
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
    rows += [
        ["parameters", f"{facts['parameters']:,} ({facts['float32_bytes'] / 1e6:.0f} MB in float32)"],
        ["format", facts["format"]],
        ["stored as", ", ".join(facts["stored_dtypes"])],
        ["head", facts["head"]],
        ["transposed", _because(facts["transposed"], "Conv1D weights are stored [in, out]")],
        ["skipped", explained(facts["skipped"])],
        ["upcast", _because(facts["upcast"], "made float32, which holds each value exactly")],
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


def _because(names: list[str], reason: str) -> str:
    return f"{counted(names)} ({reason})" if names else "none"


def generation_facts(model: str, shot: OneShot) -> dict[str, Any]:
    """Return what `max-gpt2 generate` says, as JSON values."""
    written = shot.generation
    return {
        "model": model,
        "prompt_tokens": written.prompt_tokens,
        "tokens": written.tokens,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "seed": written.seed,
        "timing": {
            "load_s": shot.load_s,
            "compile_s": shot.compile_s,
            "prefill_s": written.prefill_s,
            "decode_tokens_per_s": written.decode_tokens_per_s,
        },
    }


def show_generation(shot: OneShot) -> None:
    """Print the prompt and its continuation, and on standard error how it went."""
    written = shot.generation
    print(shot.prompt + written.text)
    speed = f", {written.decode_tokens_per_s:.1f} tokens/s" if written.decode_tokens_per_s else ""
    end = "the text ended" if written.finish_reason == "stop" else "as many as asked for"
    stderr.print(f"[dim]{len(written.tokens)} tokens ({end}), seed {written.seed}{speed}[/dim]")


def show_verification(report: Report) -> None:
    """Print a row for each prompt and the verdict."""
    rows = [
        [
            result.prompt.name,
            str(len(result.prompt.tokens)),
            f"{result.logits.max_abs_diff:.1e}",
            f"{result.logits.max_rel_diff:.1e}",
            f"{result.logits.argmax_agreement:.1%}",
            greedy(result),
            "equal" if result.logits.equal else "NOT EQUAL",
        ]
        for result in report.results
    ]
    numbers = numeric("tokens", "max diff", "relative", "same argmax", "greedy")
    title = f"{report.model}: logits of MAX and of PyTorch"
    stdout.print(table(("prompt", "left"), *numbers, ("", "left"), rows=rows, title=title))
    print(f"PyTorch's side: {report.reference}.")
    print(verdict([result.logits for result in report.results]))


def greedy(result: PromptResult) -> str:
    """Return whether both wrote the same tokens after a prompt, and how many."""
    if not result.greedy_tokens:
        return "no room"
    return f"{'same' if result.greedy_match else 'other'} {result.greedy_tokens}"


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Return the one line that a comparison ends with."""
    word = "are equal" if all(one.equal for one in comparisons) else "are NOT equal"
    apart = worst(comparisons).max_abs_diff
    return f"MAX and PyTorch {word}: their logits differ by at most {apart:.1e} ({criterion(comparisons)})."


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
        ["transposed", _because(facts["transposed"], "Linear weights are stored [out, in], Conv1D [in, out]")],
        ["skipped", explained(facts["skipped"])],
        ["dequantised", explained(facts["dequantised"])],
        ["zero-filled", explained(facts["zero_filled"])],
    ]
    stdout.print(table(("", "left"), (f"{facts['model']} ({facts['format']})", "left"), rows=rows))
