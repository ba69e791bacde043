"""The command `max-gpt2 compare-weights`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from max_gpt2.tokenizer import GPT2Tokenizer
    from max_gpt2.verify.weight_types import Comparison, WeightsReport


def compare_weights(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help='"demo", a Hugging Face id, a folder, or a weights file.')
    ],
    others: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OTHER]...", help="Checkpoints of the same model, such as GGUF files."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", metavar="TYPE", help="Convert MODEL to this type; repeatable; default: all types."),
    ] = None,
    text: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="A text file in UTF-8; default: a chapter of a novel.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", help="Compare the first N tokens; default: 4096.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Also show the errors of each layer.")] = False,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Show what narrower types of weights change.

    The reference is MODEL as it is stored. Without --weights and OTHER, all types are compared that are narrower.
    """
    from dataclasses import replace

    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.generation import open_model
    from max_gpt2.scoring.measurement import read_text
    from max_gpt2.verify.weight_types import (
        HELD_OUT,
        MAX_TOKENS,
        Candidate,
        candidates,
        default_types,
    )
    from max_gpt2.verify.weight_types import compare_weights as run_comparison

    limit = MAX_TOKENS if max_tokens is None else max_tokens
    if limit < 2:
        raise RequestError(f"--max-tokens {limit} leaves no token to predict. Use 2 or more.")
    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, adapters=parse_adapters(adapter))
    source = open_model(model, options)
    found = candidates(model, source, weights or ([] if others else default_types(source)))
    content = read_text(text or HELD_OUT)
    ids = source.tokenizer.encode(content)[:limit]
    for other in others or ():
        opened = open_model(other, replace(options, tokenizer=None, adapters=()))
        _check_tokenizer(other, opened.tokenizer, content, ids)
        found.append(Candidate(other, opened))
    comparison = run_comparison(Candidate(model, source), found, ids, run_with_timer)
    values = {"model": model, "text": str(text) if text else None, **comparison.to_dict()}
    print_json(values) if as_json else _show(comparison, layers)


def _check_tokenizer(name: str, tokenizer: "GPT2Tokenizer", content: str, ids: list[int]) -> None:
    """Raise RequestError if another checkpoint's tokenizer encodes the text to other ids."""
    if tokenizer.encode(content)[: len(ids)] != ids:
        raise RequestError(f"The tokenizer of {name} encodes the text to other ids. Give files of the same model.")


def _show(comparison: "Comparison", layers: bool) -> None:
    from max_gpt2.cli.console import numeric, stdout, table

    names = ("matrices", "MB", "KL (nats)", "same argmax", "perplexity", "difference", "weights", "states", "tokens/s")
    title = f"{comparison.tokens:,} tokens in {comparison.windows} windows; the first row is the reference"
    rows = [_row(report, reference=number == 0) for number, report in enumerate(comparison.reports)]
    stdout.print(table(("", "left"), *numeric(*names), rows=rows, title=title))
    if layers:
        stdout.print(_layers(comparison))


def _row(report: "WeightsReport", *, reference: bool) -> list[str]:
    changes = [
        f"{report.kl_divergence:.2e}",
        f"{report.argmax_agreement:.2%}",
        f"{report.perplexity:.4f}",
        f"{report.perplexity_difference:+.4f}",
        f"{report.weight_error:.2e}",
        f"{report.hidden_state_error:.2e}",
    ]
    if reference:
        changes = ["", "", changes[2], "", "", ""]
    return [
        report.name if report.weights == "auto" else report.weights,
        ", ".join(f"{count} {type_}" for type_, count in report.types.items()),
        f"{report.bytes / 1e6:,.1f}",
        *changes,
        "" if report.tokens_per_s is None else f"{report.tokens_per_s:.1f}",
    ]


def _layers(comparison: "Comparison") -> object:
    """Return a table of the errors of each layer: those of its weights, and of its output."""
    from max_gpt2.cli.console import numeric, table

    others = comparison.reports[1:]
    names = [report.name if report.weights == "auto" else report.weights for report in others]
    rows = [
        [f"h.{layer}", *(f"{one.weights:.1e}, {one.hidden_states:.1e}" for one in errors)]
        for layer, errors in enumerate(zip(*(report.layers for report in others), strict=True))
    ]
    title = "Relative errors of each layer: of its weights, and of its output on the text"
    return table(("", "left"), *numeric(*names), rows=rows, title=title)
