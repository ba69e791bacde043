"""The command line: one short function a command, which imports only what it needs."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from max_gpt2 import __version__
from max_gpt2.cli import generate as cli_generate
from max_gpt2.cli import machine as cli_machine
from max_gpt2.cli import serve as cli_serve
from max_gpt2.cli.guard import guarded
from max_gpt2.cli.options import (
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Force,
    Input,
    Model,
    Output,
    PromptIds,
    Tokenizer,
    WhichKernels,
    check_files,
    print_json,
    prompt_tokens,
)
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.verify.verify import MakeImplementation

app = typer.Typer(
    help="GPT-2 on MAX: loads any pretrained checkpoint, proves it against PyTorch, and writes text.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    """Show the version, or the help when no command is named."""
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def info(model: Model = "demo", allow_pickle: AllowPickle = False, as_json: AsJson = False) -> None:
    """Show what a checkpoint is and what loading it would do, without loading the weights."""
    from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint
    from max_gpt2.cli import report_info as report

    facts = report.info_facts(model, *inspect_checkpoint(model, LoadOptions(allow_pickle=allow_pickle)))
    print_json(facts) if as_json else report.show_info(facts)


app.command()(cli_generate.generate)
app.command()(cli_generate.beams)


@app.command()
def score(
    text: Annotated[str | None, typer.Argument(help="The text to score.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    input_file: Input = None,
    output_file: Output = None,
    force: Force = False,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    as_json: AsJson = False,
) -> None:
    """Show how likely the model finds each token of a text, and its perplexity; with --input of each line of a file."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli import report_generate as report
    from max_gpt2.cli.console import with_clock
    from max_gpt2.generation import check_score, open_model
    from max_gpt2.generation import score as score_tokens

    check_files(text, prompt_ids, input_file, output_file, force)
    opened = open_model(model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels))
    if input_file:
        from max_gpt2.cli import report_batch as batch

        load = partial(opened.load, with_clock)
        facts = batch.score_lines(model, opened, batch.Files(input_file, output_file, force), load)
        print_json(facts) if as_json else batch.show_scored(facts)
        raise typer.Exit(1 if facts["errors"] else 0)
    tokens = prompt_tokens(opened.tokenizer, text, prompt_ids)
    check_score(opened.config, tokens)
    engine = opened.load(with_clock).engine
    scored = with_clock("Scoring", lambda: score_tokens(engine, tokens))
    print_json(report.score_facts(model, scored)) if as_json else report.show_score(scored, opened.tokenizer)


@app.command()
def verify(
    model: Model = "demo",
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Compare with this checkpoint, in MAX, instead of PyTorch.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as one HTML page, too.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Compare the model that you built in steps/.")] = False,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    as_json: AsJson = False,
) -> None:
    """Compare MAX with PyTorch, layer by layer; the exit code is 0 when they are equal and 1 when not."""
    from max_gpt2._files import check_writable, write_text
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import with_clock
    from max_gpt2.cli.report_verify import show_verification
    from max_gpt2.verify import render
    from max_gpt2.verify import verify as run_verification

    if report:
        check_writable(report)
    ours = _my_side(against) if mine else None
    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels)
    found = run_verification(model, with_clock, options, against=against, ours=ours)
    facts = found.to_json()
    if report:
        write_text(report, render(facts))
    print_json(facts) if as_json else show_verification(found)
    raise typer.Exit(0 if found.passed else 1)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help='"demo", a hub id, a folder, or a file of weights.')],
    target: Annotated[str, typer.Argument(metavar="DST", help="The folder to write, which must not exist.")],
    force: Annotated[bool, typer.Option("--force", help="Replace DST if it is empty or a GPT-2 checkpoint.")] = False,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint of any format as a Hugging Face folder, its weights bit for bit the same."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.checkpoint.convert import convert as run_conversion
    from max_gpt2.cli import report_convert as report
    from max_gpt2.cli.console import byte_bar

    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite)
    with byte_bar("Writing the weights") as progress:
        done = run_conversion(source, target, options, force=force, progress=progress)
    facts = report.conversion_facts(source, done)
    print_json(facts) if as_json else report.show_conversion(facts)


app.command()(cli_machine.doctor)
app.command()(cli_machine.warm)
app.command()(cli_serve.serve)


def _my_side(against: str | None) -> "MakeImplementation":
    """Return what loads a checkpoint into the learner's model, and say on standard error which steps are theirs."""
    from max_gpt2.cli.console import stderr
    from max_gpt2.course import course

    if against is not None:
        raise RequestError("--mine compares your model with PyTorch, and --against two checkpoints. Leave one out.")
    parts = course("mine").my_parts()
    stderr.print(parts.whose, markup=False)
    return partial(course("side").MySide, parts)


def main() -> None:
    """Run the command line; whatever goes wrong becomes one sentence on standard error and an exit code."""
    sys.exit(guarded(lambda: app(standalone_mode=False)))
