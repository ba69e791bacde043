"""The learner's commands: `python -m tutorial --help`."""

import sys
from typing import Annotated

import typer

from max_gpt2.cli.process import run_guarded
from max_gpt2.errors import RequestError
from tutorial.places import ROOT, STEPS, check_number, solution_path, step_name

app = typer.Typer(
    help="Build GPT-2 yourself, in fourteen steps.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Number = Annotated[int | None, typer.Argument(metavar="[STEP]", help="1 to 14; without it, the next one to do.")]


@app.callback()
def options() -> None:
    """Build GPT-2 yourself, in fourteen steps: fill in steps/step_01.py, check it, go on."""


@app.command()
def check(step: Number = None) -> None:
    """Run your file, compare it with PyTorch, and say what is wrong; the exit code is 0 only when it is right."""
    from tutorial.check import make_plan
    from tutorial.progress import read_progress
    from tutorial.show import show_check
    from tutorial.workshop import Workshop

    with Workshop() as workshop:
        passed = show_check(make_plan(_wanted(step), read_progress()), workshop)
    raise typer.Exit(0 if passed else 1)


@app.command()
def watch() -> None:
    """Check every step that you save, until Ctrl-C."""
    from tutorial.check import make_plan
    from tutorial.progress import read_progress
    from tutorial.show import show_check
    from tutorial.watch import saved_steps
    from tutorial.workshop import Workshop

    saved = saved_steps()
    print("Watching steps/: save a file, and it is checked. Ctrl-C ends it.", flush=True)
    with Workshop() as workshop:
        try:
            for number in saved:
                print()
                show_check(make_plan(number, read_progress()), workshop)
        except KeyboardInterrupt:
            print("\nUntil next time. `make progress` shows where you are.")


@app.command()
def hint(step: Number = None) -> None:
    """Show a hint; asked again, the next one, which says more."""
    from tutorial.progress import read_progress, write_progress
    from tutorial.show import show_hint

    progress = read_progress()
    show_hint(_wanted(step), progress)
    write_progress(progress)


@app.command()
def solution(
    step: Number = None, yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether you are sure.")] = False
) -> None:
    """Show the solution, once you are sure."""
    number = _wanted(step)
    if not yes:
        if not sys.stdin.isatty():
            raise RequestError("Nobody is there to be asked whether to show the solution. Add --yes.")
        if not typer.confirm(f"Show the solution of step {number}? Finding it is more fun than reading it"):
            return
    print(solution_path(number).read_text(encoding="utf-8"), end="")


@app.command()
def reset(step: Annotated[int, typer.Argument(metavar="STEP", help="1 to 14.")]) -> None:
    """Start a step anew; a copy of your file is kept."""
    from tutorial.reset import reset_step

    copy = reset_step(step)
    print(f"{step_name(step)} is a skeleton again.")
    if copy:
        print(f"What was in it is in {copy.relative_to(ROOT)}.")


@app.command()
def progress() -> None:
    """Show what is done, and what is next."""
    from tutorial.progress import read_progress
    from tutorial.show import show_progress

    show_progress(read_progress())


@app.command()
def steps() -> None:
    """Make steps/ anew from solutions/; files with your work in them are left alone."""
    from tutorial.make_steps import make_steps

    written, kept = make_steps()
    print(f"Written: {len(written)} skeletons in steps/.")
    if kept:
        print(
            f"Left alone, for they hold your work: {', '.join(map(str, kept))}. `make reset STEP=...` starts one anew."
        )


def _wanted(step: int | None) -> int:
    """Return the step that is asked for, or the next one to do, or the last when all are done."""
    from tutorial.progress import read_progress

    number = step if step is not None else read_progress().next() or STEPS
    check_number(number)
    return number


if __name__ == "__main__":
    sys.exit(run_guarded(lambda: app(standalone_mode=False)))
