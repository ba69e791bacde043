"""The command for published numbers: `max-gpt2 golden`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from max_gpt2.cli.options import (
    DEFAULT_WEIGHTS,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Model,
    Tokenizer,
    WhichKernels,
    WhichWeights,
    print_json,
)

if TYPE_CHECKING:
    from max_gpt2.scoring.golden import Outcome


def golden(
    model: Model = "demo",
    claims: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Check the claims of this checkpoint, or those in a .json file."),
    ] = None,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Check the published numbers that belong to a checkpoint.

    The exit code is 1 when one differs.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.generation import open_model
    from max_gpt2.scoring.claims import claims_of
    from max_gpt2.scoring.golden import Checker

    found = claims_of(model, claims)
    opened = open_model(model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, weights=weights))
    outcomes = list(Checker(opened, run_with_timer).check(found))
    verdicts = [one.verdict for one in outcomes]
    counts = {"passed": verdicts.count("pass"), "failed": verdicts.count("fail"), "not_run": verdicts.count("not run")}
    if as_json:
        print_json({"model": model, **counts, "claims": [one.to_dict() for one in outcomes]})
    else:
        _show(outcomes, counts)
    raise typer.Exit(1 if counts["failed"] else 0)


def _show(outcomes: list["Outcome"], counts: dict[str, int]) -> None:
    """Print a row per claim that was checked, a sentence per claim that needs data, and the counts."""
    from max_gpt2.cli.console import stdout, table

    rows = [
        [one.claim.describe(), one.claim.source, _cell(one.claim.expected), _ours(one), one.verdict.upper()]
        for one in outcomes
        if one.verdict != "not run"
    ]
    columns = ("claim", "source", "published", "ours", "")
    stdout.print(table(*((name, "left") for name in columns), rows=rows))
    if counts["not_run"]:
        print("Not run, because they need data:")
    for one in outcomes:
        if one.verdict == "not run":
            print(f"  {_cell(one.claim.expected)} ({one.claim.source}): {one.claim.note}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['not_run']} not run.")


def _ours(outcome: "Outcome") -> str:
    if outcome.problem and outcome.ours is None:
        return outcome.problem
    note = "" if outcome.difference is None else f" (difference {outcome.difference:.1e})"
    return f"{_cell(outcome.ours)}{note}"


def _cell(value: Any) -> str:
    """Return a value as text: numbers with four decimals."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return json.dumps(value, ensure_ascii=False)
