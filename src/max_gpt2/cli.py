"""The command line: one short function a command, which imports only what it needs."""

import json
import math
import sys
from typing import Annotated, Any

import typer

from max_gpt2 import __version__
from max_gpt2.errors import RequestError
from max_gpt2.guard import guarded

app = typer.Typer(
    help="GPT-2 on MAX: loads any pretrained checkpoint, proves it against PyTorch, and writes text.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Model = Annotated[str, typer.Option("--model", help='"demo", a hub id such as gpt2, a folder, or a file of weights.')]
Tokenizer = Annotated[
    str | None, typer.Option("--tokenizer", metavar="FOLDER", help="Whose tokenizer to use, for weights without one.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read PyTorch's .bin and .pt too, as plain tensors (needs PyTorch).")
]
AllowNonfinite = Annotated[bool, typer.Option("--allow-nonfinite", help="Load weights that are NaN or infinite.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


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
    from max_gpt2 import reports
    from max_gpt2.checkpoint import inspect_checkpoint

    facts = reports.info_facts(model, *inspect_checkpoint(model, allow_pickle=allow_pickle))
    _print_json(facts) if as_json else reports.show_info(facts)


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue.")] = None,
    model: Model = "demo",
    prompt_ids: Annotated[str | None, typer.Option(help="The prompt as ids: 1,2,3.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="How many tokens to write at most.")] = 50,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the K likeliest tokens; 0 among all.")] = 0,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same text.")] = None,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt."""
    from max_gpt2 import reports
    from max_gpt2.console import with_clock
    from max_gpt2.generation import Request, generate_once

    request = Request(prompt, _parse_ids(prompt_ids), max_new_tokens, temperature, top_k, seed)
    shot = generate_once(
        model, request, with_clock, tokenizer=tokenizer, allow_pickle=allow_pickle, allow_nonfinite=allow_nonfinite
    )
    if not prompt and prompt_ids is None:
        print("The prompt is empty: one <|endoftext|> started the text.", file=sys.stderr)
    _print_json(reports.generation_facts(model, shot)) if as_json else reports.show_generation(shot)


@app.command()
def verify(
    model: Model = "demo",
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Compare MAX with PyTorch, number by number; the exit code is 0 when they are equal and 1 when not."""
    from max_gpt2 import reports
    from max_gpt2.console import with_clock
    from max_gpt2.verify import verify as run_verification

    report = run_verification(
        model, with_clock, tokenizer=tokenizer, allow_pickle=allow_pickle, allow_nonfinite=allow_nonfinite
    )
    _print_json(report.to_json()) if as_json else reports.show_verification(report)
    raise typer.Exit(0 if report.passed else 1)


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
    from max_gpt2 import reports
    from max_gpt2.console import byte_bar
    from max_gpt2.convert import convert as run_conversion

    with byte_bar("Writing the weights") as progress:
        done = run_conversion(
            source,
            target,
            force=force,
            tokenizer=tokenizer,
            allow_pickle=allow_pickle,
            allow_nonfinite=allow_nonfinite,
            progress=progress,
        )
    facts = reports.conversion_facts(source, done)
    _print_json(facts) if as_json else reports.show_conversion(facts)


def main() -> None:
    """Run the command line; whatever goes wrong becomes one sentence on standard error and an exit code."""
    sys.exit(guarded(lambda: app(standalone_mode=False)))


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(_without_infinities(facts), ensure_ascii=False))


def _without_infinities(value: Any) -> Any:
    """JSON has no word for what is not finite: null stands for it."""
    if isinstance(value, dict):
        return {name: _without_infinities(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_infinities(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse_ids(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise RequestError(f"--prompt-ids {text!r} is not a list of ids. Write them as 1,2,3.") from error
