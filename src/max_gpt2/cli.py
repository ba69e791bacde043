"""The command line: one short function a command, which imports only what it needs."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from max_gpt2 import __version__, cli_machine
from max_gpt2.cli_options import (
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Force,
    Input,
    Model,
    Output,
    PromptIds,
    Tokenizer,
    check_files,
    prompt_tokens,
)
from max_gpt2.errors import RequestError
from max_gpt2.guard import guarded

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
    from max_gpt2.checkpoint import inspect_checkpoint
    from max_gpt2.reports import info as report

    facts = report.info_facts(model, *inspect_checkpoint(model, allow_pickle=allow_pickle))
    _print_json(facts) if as_json else report.show_info(facts)


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    max_new_tokens: Annotated[int, typer.Option(help="How many tokens to write at most.")] = 50,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the K likeliest tokens; 0 among all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this probability.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Leave out what is less likely than this part of the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: what is in the text becomes less likely.")] = 1.0,
    presence_penalty: Annotated[float, typer.Option(help="Subtracted once from what was written.")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="Subtracted for each time that it was written.")] = 0.0,
    no_repeat_ngram_size: Annotated[int, typer.Option(help="No sequence of so many tokens comes twice.")] = 0,
    min_new_tokens: Annotated[int, typer.Option(help="The text does not end before so many tokens.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given several times.")] = None,
    logprobs: Annotated[int | None, typer.Option(help="With --json: probabilities, and of so many others.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same text.")] = None,
    input_file: Input = None,
    output_file: Output = None,
    force: Force = False,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt, or with --input each line of a file; without a prompt on a terminal, ask for one."""
    from max_gpt2.console import with_clock
    from max_gpt2.generation import Request, Sampling, check_request, fresh_seed, open_model
    from max_gpt2.reports import generate as report
    from max_gpt2.standard_input import at_a_terminal, piped_text

    check_files(prompt, prompt_ids, input_file, output_file, force)
    if logprobs is not None and not as_json and not input_file:
        raise RequestError("--logprobs are part of the JSON. Add --json.")
    opened = open_model(model, tokenizer=tokenizer, allow_pickle=allow_pickle)
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        min_new_tokens=min_new_tokens,
        seed=seed,
    )
    options = Request((), max_new_tokens, sampling, stop or (), logprobs=logprobs)
    if input_file:
        from max_gpt2.reports import batch

        load = partial(opened.load, with_clock, allow_nonfinite=allow_nonfinite)
        facts = batch.generate_lines(model, opened, options, batch.Files(input_file, output_file, force), load)
        _print_json(facts) if as_json else batch.show_generated(facts)
        raise typer.Exit(1 if facts["errors"] else 0)
    if prompt is None and prompt_ids is None:
        if at_a_terminal() and not as_json:
            from max_gpt2.prompt_loop import PromptLoop

            check_request(opened.config, opened.tokenizer, replace(options, prompt_tokens=[0]))
            PromptLoop(opened.load(with_clock, allow_nonfinite=allow_nonfinite), options).run()
            return
        prompt = piped_text()
    tokens = prompt_tokens(opened.tokenizer, prompt, prompt_ids)
    request = replace(options, prompt_tokens=tokens).with_seed(fresh_seed() if seed is None else seed)
    check_request(opened.config, opened.tokenizer, request)
    loaded = opened.load(with_clock, allow_nonfinite=allow_nonfinite)
    if not prompt and prompt_ids is None:
        print("The prompt is empty: one <|endoftext|> starts the text.", file=sys.stderr)
    if as_json:
        written = with_clock("Writing", lambda: loaded.engine.generate(request))
        _print_json(report.generation_facts(model, loaded, written))
    else:
        report.show_as_it_is_written(loaded, request)


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
    as_json: AsJson = False,
) -> None:
    """Show how likely the model finds each token of a text, and its perplexity; with --input of each line of a file."""
    from max_gpt2.console import with_clock
    from max_gpt2.generation import check_score, open_model
    from max_gpt2.generation import score as score_tokens
    from max_gpt2.reports import generate as report

    check_files(text, prompt_ids, input_file, output_file, force)
    opened = open_model(model, tokenizer=tokenizer, allow_pickle=allow_pickle)
    if input_file:
        from max_gpt2.reports import batch

        load = partial(opened.load, with_clock, allow_nonfinite=allow_nonfinite)
        facts = batch.score_lines(model, opened, batch.Files(input_file, output_file, force), load)
        _print_json(facts) if as_json else batch.show_scored(facts)
        raise typer.Exit(1 if facts["errors"] else 0)
    tokens = prompt_tokens(opened.tokenizer, text, prompt_ids)
    check_score(opened.config, tokens)
    engine = opened.load(with_clock, allow_nonfinite=allow_nonfinite).engine
    scored = with_clock("Scoring", lambda: score_tokens(engine, tokens))
    _print_json(report.score_facts(model, scored)) if as_json else report.show_score(scored, opened.tokenizer)


@app.command()
def verify(
    model: Model = "demo",
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Compare with this checkpoint, in MAX, instead of PyTorch.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as one HTML page, too.")
    ] = None,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    as_json: AsJson = False,
) -> None:
    """Compare MAX with PyTorch, layer by layer; the exit code is 0 when they are equal and 1 when not."""
    from max_gpt2.console import with_clock
    from max_gpt2.files import check_writable, write_text
    from max_gpt2.reports.verify import show_verification
    from max_gpt2.verify import render
    from max_gpt2.verify import verify as run_verification

    if report:
        check_writable(report)
    found = run_verification(
        model,
        with_clock,
        against=against,
        tokenizer=tokenizer,
        allow_pickle=allow_pickle,
        allow_nonfinite=allow_nonfinite,
    )
    facts = found.to_json()
    if report:
        write_text(report, render(facts))
    _print_json(facts) if as_json else show_verification(found)
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
    from max_gpt2.console import byte_bar
    from max_gpt2.convert import convert as run_conversion
    from max_gpt2.reports import convert as report

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
    facts = report.conversion_facts(source, done)
    _print_json(facts) if as_json else report.show_conversion(facts)


app.command()(cli_machine.doctor)
app.command()(cli_machine.warm)


def main() -> None:
    """Run the command line; whatever goes wrong becomes one sentence on standard error and an exit code."""
    sys.exit(guarded(lambda: app(standalone_mode=False)))


def _print_json(facts: dict[str, Any]) -> None:
    from max_gpt2.json_text import json_text

    print(json_text(facts))
