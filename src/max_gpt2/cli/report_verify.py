"""Print the report of `max-gpt2 verify`."""

from collections.abc import Sequence

from rich.table import Table

from max_gpt2.cli.console import numeric, stdout, table
from max_gpt2.model import BLOCK_STATES
from max_gpt2.verify import Difference, LogitsDifference, Probe, PromptResult, Report, worst


def show_verification(report: Report) -> None:
    """Print a row for each prompt, a row for each layer, and the verdict."""
    ours, theirs = report.implementations
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
    title = f"{report.model}: logits of {ours} and of {theirs}"
    stdout.print(table(("prompt", "left"), *numbers, ("", "left"), rows=rows, title=title))
    if report.results[0].states:
        stdout.print(_layers(report.probes))
    print(f"{theirs}: {report.reference}.")
    print(verdict(report.logits, report.implementations, report.passed))
    if first := report.first_divergence:
        print(
            f"First divergence: {first.name}, by {first.difference.max_abs_diff:.1e} "
            f'(relative {first.difference.max_rel_diff:.1e}) on the prompt "{first.prompt}".'
        )


def _layers(probes: Sequence[Probe]) -> Table:
    """Make a table of the hidden states: a row per layer, a column per submodule, a star beyond tolerance."""
    differences = {probe.name: probe.difference for probe in probes}
    n_layer = sum(name.endswith(".ln_1") for name in differences)
    rows = [[name, *_cells([differences[name]], skip=len(BLOCK_STATES) - 1)] for name in ("wte", "embeddings")]
    for layer in range(n_layer):
        block = [differences[f"h.{layer}{part}"] for part in BLOCK_STATES]
        rows.append([f"h.{layer}", *_cells(block)])
    rows.append(["ln_f", *_cells([differences["ln_f"]], skip=len(BLOCK_STATES) - 1)])
    parts = [part.removeprefix(".") or "output" for part in BLOCK_STATES]
    title = "Hidden states: largest differences (* beyond tolerance), and the largest relative difference"
    return table(("", "left"), *numeric(*parts, "relative"), rows=rows, title=title)


def _cells(differences: Sequence[Difference], skip: int = 0) -> list[str]:
    cells = [f"{one.max_abs_diff:.1e}{'' if one.equal else '*'}" for one in differences]
    return [*[""] * skip, *cells, f"{max(one.max_rel_diff for one in differences):.1e}"]


def greedy(result: PromptResult) -> str:
    """Say whether both continuations are the same, and how many tokens were generated."""
    if not result.greedy_tokens:
        return "none"
    return f"{'same' if result.greedy_match else 'different'} {result.greedy_tokens}"


def verdict(
    logits: Sequence[LogitsDifference], implementations: tuple[str, str] = ("MAX", "PyTorch"), passed: bool = True
) -> str:
    """Return the verdict line of a comparison; `passed` is False when the hidden states differ."""
    equal, most = all(one.equal for one in logits), worst(logits)
    word = ("are equal" if passed else "have different hidden states") if equal else "are NOT equal"
    both = " and ".join(implementations)
    both = both[0].upper() + both[1:]
    return f"{both} {word}: their logits differ by at most {most.max_abs_diff:.1e} ({most.criterion})."
