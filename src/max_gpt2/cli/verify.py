"""The comparison command: `max-gpt2 verify`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from max_gpt2.cli.options import (
    DEFAULT_WEIGHTS,
    Adapters,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Model,
    Tokenizer,
    WhichKernels,
    WhichWeights,
    parse_adapters,
    print_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from max_gpt2.verify import Difference, LogitsDifference, Probe, PromptResult, Report


def verify(
    model: Model = "demo",
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Compare with this checkpoint on MAX instead of PyTorch.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the comparison as an HTML page.")
    ] = None,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Compare MAX with PyTorch, layer by layer.

    The exit code is 0 when they are equal within float32 rounding, 1 otherwise.
    """
    from max_gpt2._files import check_writable, write_text
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.generation import open_model
    from max_gpt2.generation.fingerprint import fingerprint
    from max_gpt2.verify import render
    from max_gpt2.verify import verify as run_verification
    from max_gpt2.verify.verdicts import save_verdict

    if report:
        check_writable(report)
    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter), weights)
    found = run_verification(model, run_with_timer, options, against=against)
    if against is None and kernels == "mojo":
        save_verdict(fingerprint(open_model(model, options)), found)
    values = found.to_json()
    if report:
        write_text(report, render(values))
    print_json(values) if as_json else show_verification(found)
    raise typer.Exit(0 if found.passed else 1)


def show_verification(report: "Report") -> None:
    """Print a row per prompt, a row per layer, and the verdict."""
    from max_gpt2.cli.console import numeric, stdout, table

    ours, theirs = report.implementations
    rows = [
        [
            result.prompt.name,
            str(len(result.prompt.tokens)),
            f"{result.logits.max_abs_diff:.1e}",
            f"{result.logits.max_rel_diff:.1e}",
            f"{result.logits.argmax_agreement:.1%}",
            _greedy_cell(result),
            "equal" if result.logits.equal else "NOT EQUAL",
        ]
        for result in report.results
    ]
    numbers = numeric("tokens", "max diff", "relative", "same argmax", "greedy")
    title = f"{report.model}: logits of {ours} and {theirs}"
    stdout.print(table(("prompt", "left"), *numbers, ("", "left"), rows=rows, title=title))
    if report.results[0].states:
        stdout.print(_layers(report.probes))
    print(f"{theirs}: {report.reference}.")
    print(verdict(report.logits, report.implementations, report.passed))
    if report.tokenizer:
        print(report.tokenizer.describe())
    elif theirs == "PyTorch":
        print("Tokenizer: not compared, because transformers loads none from the checkpoint's folder.")
    if first := report.first_divergence:
        print(
            f"First divergence: {first.name}, by {first.difference.max_abs_diff:.1e} "
            f'(relative {first.difference.max_rel_diff:.1e}) on the prompt "{first.prompt}".'
        )


def _layers(probes: Sequence["Probe"]) -> "Table":
    """Return a table of the hidden states: one row per layer, one column per probe, a star beyond tolerance."""
    from max_gpt2.cli.console import numeric, table
    from max_gpt2.model import BLOCK_STATES

    differences = {probe.name: probe.difference for probe in probes}
    n_layer = sum(name.endswith(".ln_1") for name in differences)
    rows = [
        [name, *_difference_cells([differences[name]], skip=len(BLOCK_STATES) - 1)] for name in ("wte", "embeddings")
    ]
    for layer in range(n_layer):
        block = [differences[f"h.{layer}{part}"] for part in BLOCK_STATES]
        rows.append([f"h.{layer}", *_difference_cells(block)])
    rows.append(["ln_f", *_difference_cells([differences["ln_f"]], skip=len(BLOCK_STATES) - 1)])
    parts = [part.removeprefix(".") or "output" for part in BLOCK_STATES]
    title = "Hidden states: maximum absolute difference (* beyond tolerance) and maximum relative difference"
    return table(("", "left"), *numeric(*parts, "relative"), rows=rows, title=title)


def _difference_cells(differences: Sequence["Difference"], skip: int = 0) -> list[str]:
    cells = [f"{one.max_abs_diff:.1e}{'' if one.equal else '*'}" for one in differences]
    return [*[""] * skip, *cells, f"{max(one.max_rel_diff for one in differences):.1e}"]


def _greedy_cell(result: "PromptResult") -> str:
    """Return a table cell: "same" or "different" greedy continuations, and their length in tokens."""
    if not result.greedy_tokens:
        return "context full"
    return f"{'same' if result.greedy_match else 'different'} {result.greedy_tokens}"


def verdict(
    logits: Sequence["LogitsDifference"], implementations: tuple[str, str] = ("MAX", "PyTorch"), passed: bool = True
) -> str:
    """Return the last line of a comparison; `passed` is true if the hidden states are equal as well."""
    from max_gpt2.verify import worst

    equal, most = all(one.equal for one in logits), worst(logits)
    word = ("are equal" if passed else "have different hidden states") if equal else "are NOT equal"
    both = " and ".join(implementations)
    both = both[0].upper() + both[1:]
    return f"{both} {word}: their logits differ by at most {most.max_abs_diff:.1e} ({most.criterion})."
