"""What `max-gpt2 verify` shows."""

from collections.abc import Sequence

from rich.table import Table

from max_gpt2.cli.console import numeric, stdout, table
from max_gpt2.model import BLOCK_STATES
from max_gpt2.verify import Difference, LogitsDifference, Place, PromptResult, Report, worst


def show_verification(report: Report) -> None:
    """Print a row for each prompt, a row for each layer, and the verdict."""
    ours, theirs = report.sides
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
        stdout.print(_layers(report.places))
    print(f"{theirs}'s side: {report.reference}.")
    print(verdict(report.logits, report.sides, report.passed))
    if first := report.first_difference:
        print(
            f"The first place where they part: {first.name}, by {first.difference.max_abs_diff:.1e} "
            f'(relative {first.difference.max_rel_diff:.1e}) on the prompt "{first.prompt}".'
        )


def _layers(places: Sequence[Place]) -> Table:
    """Make a table of the hidden states: a row a layer, a column for each of its parts, a star where they part."""
    differences = {place.name: place.difference for place in places}
    n_layer = sum(name.endswith(".ln_1") for name in differences)
    rows = [[name, *_apart([differences[name]], skip=len(BLOCK_STATES) - 1)] for name in ("wte", "embeddings")]
    for layer in range(n_layer):
        block = [differences[f"h.{layer}{part}"] for part in BLOCK_STATES]
        rows.append([f"h.{layer}", *_apart(block)])
    rows.append(["ln_f", *_apart([differences["ln_f"]], skip=len(BLOCK_STATES) - 1)])
    parts = [part.removeprefix(".") or "output" for part in BLOCK_STATES]
    title = "Hidden states: the largest differences (* beyond tolerance), and the largest as a part of the values"
    return table(("", "left"), *numeric(*parts, "relative"), rows=rows, title=title)


def _apart(differences: Sequence[Difference], skip: int = 0) -> list[str]:
    cells = [f"{one.max_abs_diff:.1e}{'' if one.equal else '*'}" for one in differences]
    return [*[""] * skip, *cells, f"{max(one.max_rel_diff for one in differences):.1e}"]


def greedy(result: PromptResult) -> str:
    """Return whether both wrote the same tokens after a prompt, and how many."""
    if not result.greedy_tokens:
        return "no room"
    return f"{'same' if result.greedy_match else 'other'} {result.greedy_tokens}"


def verdict(
    logits: Sequence[LogitsDifference], sides: tuple[str, str] = ("MAX", "PyTorch"), passed: bool = True
) -> str:
    """Return the one line that a comparison ends with; `passed` says whether the hidden states are equal, too."""
    equal, most = all(one.equal for one in logits), worst(logits)
    word = ("are equal" if passed else "are NOT equal inside") if equal else "are NOT equal"
    both = " and ".join(sides)
    both = both[0].upper() + both[1:]
    return f"{both} {word}: their logits differ by at most {most.max_abs_diff:.1e} ({most.criterion})."
