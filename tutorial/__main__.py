"""The learner's commands: `python -m tutorial --help`."""

import sys

import typer

from max_gpt2.guard import guarded

app = typer.Typer(
    help="Build GPT-2 yourself, in fourteen steps.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def options() -> None:
    """Build GPT-2 yourself, in fourteen steps: fill in steps/step_01.py, check it, go on."""


@app.command()
def steps() -> None:
    """Make steps/ anew from solutions/; files with your work in them are left alone."""
    from tutorial.make_steps import make_steps

    written, kept = make_steps()
    print(f"Written: {len(written)} skeletons in steps/.")
    if kept:
        print(f"Left alone, for they hold your work: {', '.join(map(str, kept))}. `make reset STEP=N` starts one anew.")


if __name__ == "__main__":
    sys.exit(guarded(lambda: app(standalone_mode=False)))
