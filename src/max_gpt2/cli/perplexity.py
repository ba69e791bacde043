"""The perplexity command: `max-gpt2 perplexity`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from max_gpt2.cli.options import (
    Adapters,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Model,
    Tokenizer,
    WhichKernels,
    parse_adapters,
    print_json,
)

if TYPE_CHECKING:
    from max_gpt2.scoring.measurement import PerplexityReport


def perplexity(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A text file in UTF-8.")],
    # The names repeat scoring.protocols.ProtocolName: typer needs a Literal at import time.
    protocol: Annotated[
        Literal["all", "disjoint", "strided", "rolling", "lm-eval", "llama.cpp"],
        typer.Option(help="The protocol; docs/perplexity.md defines them."),
    ] = "all",
    window: Annotated[
        int | None,
        typer.Option(metavar="N", help="Tokens per window (default: the context; for llama.cpp at most 512)."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens between windows of strided (default: half a window).")
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="Add a BOS token where the protocol leaves it open (default: no)."),
    ] = None,
    model: Model = "demo",
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    as_json: AsJson = False,
) -> None:
    """Compute the perplexity of a text as other programs define it.

    With all protocols, --stride and --bos apply to those that leave them open.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.generation import open_model
    from max_gpt2.scoring import load_scorer
    from max_gpt2.scoring.measurement import PerplexityOptions, measure, plan_perplexity, read_text

    text = read_text(file)
    options = PerplexityOptions([] if protocol == "all" else [protocol], window, stride, bos)
    opened = open_model(model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter)))
    plans, report = plan_perplexity(opened.config, opened.tokenizer, text, options)
    scorer = load_scorer(opened, run_with_timer)
    report = run_with_timer("Scoring", lambda: measure(scorer, plans, report))
    values = {"model": model, "file": str(file), **report.to_dict()}
    print_json(values) if as_json else _show(values, report)


def _show(values: dict[str, Any], report: "PerplexityReport") -> None:
    """Print a row per perplexity, the tokens that count, and a sentence per protocol that was not computed."""
    from max_gpt2.cli.console import numeric, stdout, table

    rows = [
        [
            one.protocol,
            str(one.window),
            str(one.stride),
            "yes" if one.bos else "no",
            one.denominator,
            str(one.count),
            f"{one.nll:.2f}",
            f"{one.perplexity:.6g}",
            f"{one.bits_per_byte:.4f}",
        ]
        for one in report.results
    ]
    print(f"{values['model']}, {values['file']}: {_counts(report)}")
    left = [("protocol", "left"), *numeric("window", "stride"), ("BOS", "left"), ("per", "left")]
    shown = table(*left, *numeric("count", "NLL", "perplexity", "bits/byte"), rows=rows)
    shown.box, shown.pad_edge = None, False  # 80 columns
    stdout.print(shown)
    print("NLL is in nats; the perplexity is exp(NLL / count). Tokens that count:")
    for name, one in {one.protocol: one for one in report.results}.items():
        print(f"  {name}: {one.scored_tokens:,}, {one.counted} ({one.source})")
    for name, reason in report.skipped.items():
        print(f"{name}: not computed. {reason}")


def _counts(report: "PerplexityReport") -> str:
    return f"{report.tokens:,} tokens, {report.words:,} words, {report.bytes:,} bytes"
