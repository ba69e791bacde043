"""The command line of the tutorial: `python -m tutorial --help`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from max_gpt2.cli.options import AllowNonfinite, AllowPickle, AsJson, Model, Tokenizer, print_json
from max_gpt2.cli.process import run_guarded
from max_gpt2.errors import RequestError
from tutorial.step_files import ROOT, STEPS, label, parse_number, solution_path, step_name

app = typer.Typer(
    help="Build GPT-2 yourself in fourteen steps.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Step = Annotated[
    str | None, typer.Argument(metavar="[STEP]", help="1 to 14, or inside-1 to inside-3; default: the next step to do.")
]


@app.callback()
def options() -> None:
    """Build GPT-2 yourself in fourteen steps: fill in steps/step_01.py, check it, go on to the next."""


@app.command()
def check(step: Step = None) -> None:
    """Run your file and compare it with PyTorch; exit code 0 if it is correct."""
    from tutorial.check import make_plan
    from tutorial.display import show_check
    from tutorial.progress import read_progress
    from tutorial.worker import Worker

    with Worker() as worker:
        passed = show_check(make_plan(_step_or_next(step), read_progress()), worker)
    raise typer.Exit(0 if passed else 1)


@app.command()
def watch() -> None:
    """Check each step whenever you save it, until Ctrl-C."""
    from tutorial.check import make_plan
    from tutorial.display import show_check
    from tutorial.progress import read_progress, saved_steps
    from tutorial.worker import Worker

    saved = saved_steps()
    print("Watching steps/: each file is checked when you save it. Press Ctrl-C to stop.", flush=True)
    with Worker() as worker:
        try:
            for number in saved:
                print()
                show_check(make_plan(number, read_progress()), worker)
        except KeyboardInterrupt:
            print("\nStopped watching. `make progress` shows your progress.")


@app.command()
def hint(step: Step = None) -> None:
    """Show a hint; each further call shows the next, more explicit one."""
    from tutorial.display import show_hint
    from tutorial.progress import read_progress, write_progress

    progress = read_progress()
    show_hint(_step_or_next(step), progress)
    write_progress(progress)


@app.command()
def solution(
    step: Step = None, yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False
) -> None:
    """Show the solution, after asking for confirmation."""
    number = _step_or_next(step)
    if not yes:
        if not sys.stdin.isatty():
            raise RequestError("Cannot ask for confirmation: standard input is not a terminal. Add --yes.")
        if not typer.confirm(f"Show the solution of step {label(number)}?"):
            return
    print(solution_path(number).read_text(encoding="utf-8"), end="")


@app.command()
def reset(step: Annotated[str, typer.Argument(metavar="STEP", help="1 to 14, or inside-1 to inside-3.")]) -> None:
    """Restore the skeleton of a step; a copy of your file is kept."""
    from tutorial.step_files import reset_step

    number = parse_number(step)
    backup = reset_step(number)
    print(f"{step_name(number)} is a skeleton again.")
    if backup:
        print(f"Your file was copied to {backup.relative_to(ROOT)}.")


@app.command()
def progress() -> None:
    """Show which steps are done and which one is next."""
    from tutorial.display import show_progress
    from tutorial.progress import read_progress

    show_progress(read_progress())


@app.command()
def steps() -> None:
    """Regenerate the skeletons in steps/ from solutions/; files that contain your work are left alone."""
    from tutorial.step_files import make_steps

    written, edited = make_steps()
    print(f"Wrote {len(written)} skeletons to steps/.")
    if edited:
        listed = ", ".join(map(label, edited))
        print(f"Left alone because they contain your work: {listed}. `make reset STEP=...` restores a skeleton.")


@app.command()
def verify(
    model: Model = "demo",
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the comparison as HTML.")] = None,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Load a checkpoint into the model you built and compare it with PyTorch; exit code 0 if equal, 1 if not."""
    from max_gpt2._files import check_writable, write_text
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer, stderr
    from max_gpt2.cli.verify import show_verification
    from max_gpt2.verify import render
    from max_gpt2.verify import verify as run_verification
    from tutorial.learner_model import LearnerImplementation, learner_parts

    if report:
        check_writable(report)
    parts = learner_parts()
    stderr.print(parts.origin, markup=False)
    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite)
    result = run_verification(model, run_with_timer, options, ours=partial(LearnerImplementation, parts))
    if report:
        write_text(report, render(result.to_json()))
    print_json(result.to_json()) if as_json else show_verification(result)
    raise typer.Exit(0 if result.passed else 1)


def _step_or_next(step: str | None) -> int:
    """Return the given step, or else the next one to do, or the last one when all are done."""
    from tutorial.progress import read_progress

    return parse_number(step) if step is not None else read_progress().next() or STEPS


if __name__ == "__main__":
    sys.exit(run_guarded(lambda: app(standalone_mode=False)))
