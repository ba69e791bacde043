"""The commands that write: `max-gpt2 generate` and `max-gpt2 beams`."""

import sys
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import typer

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
    bans,
    biases,
    check_files,
    print_json,
    prompt_tokens,
)
from max_gpt2.errors import RequestError

MaxNewTokens = Annotated[int, typer.Option(help="How many tokens to write at most.")]
RepetitionPenalty = Annotated[float, typer.Option(help="Above 1: what is in the text becomes less likely.")]
NoRepeatNgramSize = Annotated[int, typer.Option(help="No sequence of so many tokens comes twice.")]
LogitBias = Annotated[
    list[str] | None, typer.Option(metavar="ID=NUMBER", help="Added to the logit of an id; may be given several times.")
]
BadWords = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="Never write the tokens of this; may be given several times.")
]
MinNewTokens = Annotated[int, typer.Option(help="The text does not end before so many tokens.")]


def generate(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    max_new_tokens: MaxNewTokens = 50,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the K likeliest tokens; 0 among all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this probability.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Leave out what is less likely than this part of the likeliest.")] = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    presence_penalty: Annotated[float, typer.Option(help="Subtracted once from what was written.")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="Subtracted for each time that it was written.")] = 0.0,
    no_repeat_ngram_size: NoRepeatNgramSize = 0,
    logit_bias: LogitBias = None,
    bad_words: BadWords = None,
    min_new_tokens: MinNewTokens = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given several times.")] = None,
    context_overflow: Annotated[
        Literal["stop", "slide"], typer.Option(help="At the end of the context: end, or go on with its last half.")
    ] = "stop",
    logprobs: Annotated[int | None, typer.Option(help="With --json: probabilities, and of so many others.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same text.")] = None,
    n: Annotated[int, typer.Option("--n", help="Write so many texts, with the seeds SEED, SEED + 1, ...")] = 1,
    input_file: Input = None,
    output_file: Output = None,
    force: Force = False,
    batch_size: Annotated[int, typer.Option(help="With --input or --n: how many texts are written at a time.")] = 8,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    as_json: AsJson = False,
) -> None:
    """Continue a prompt, or with --input each line of a file; without a prompt on a terminal, ask for one."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli import report_generate as report
    from max_gpt2.cli.console import with_clock
    from max_gpt2.cli.standard_input import at_a_terminal, piped_text
    from max_gpt2.generation import Request, Sampling, check_request, open_model

    check_files(prompt, prompt_ids, input_file, output_file, force)
    if logprobs is not None and not as_json and not input_file:
        raise RequestError("--logprobs are part of the JSON. Add --json.")
    opened = open_model(model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels))
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        logit_bias=biases(logit_bias),
        bad_words=bans(bad_words, opened.tokenizer),
        min_new_tokens=min_new_tokens,
        seed=seed,
    )
    options = Request((), max_new_tokens, sampling, stop or (), (), logprobs, context_overflow)
    at_a_prompt = prompt is None and prompt_ids is None and not input_file and not as_json and at_a_terminal()
    if n != 1 and (input_file or at_a_prompt):
        raise RequestError("--n is for one prompt. Give a text or --prompt-ids, or leave --n out.")
    load = partial(opened.load, with_clock)
    if input_file:
        from max_gpt2.cli import report_batch as batch

        files = batch.Files(input_file, output_file, force)
        facts = batch.generate_lines(model, opened, options, files, load, batch_size)
        print_json(facts) if as_json else batch.show_generated(facts)
        raise typer.Exit(1 if facts["errors"] else 0)
    if at_a_prompt:
        from max_gpt2.cli.repl import PromptLoop

        check_request(opened.config, opened.tokenizer, replace(options, prompt_tokens=[0]))
        PromptLoop(load(), options).run()
        return
    prompt = piped_text() if prompt is None and prompt_ids is None else prompt
    request = replace(options, prompt_tokens=prompt_tokens(opened.tokenizer, prompt, prompt_ids))
    requests = request.samples(n)
    check_request(opened.config, opened.tokenizer, request)
    loaded = load()
    if not prompt and prompt_ids is None:
        print("The prompt is empty: one <|endoftext|> starts the text.", file=sys.stderr)
    if as_json:
        texts = with_clock("Writing", lambda: list(loaded.engine.generate_all(requests, batch_size)))
        print_json(report.generation_facts(model, loaded, texts))
    elif n == 1:
        report.show_as_it_is_written(loaded, requests[0])
    else:
        report.show_samples(loaded, requests, batch_size)


def beams(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    num_beams: Annotated[int, typer.Option(help="How many texts grow side by side, and are shown.")] = 4,
    length_penalty: Annotated[float, typer.Option(help="Above 0 prefers longer texts, below 0 shorter ones.")] = 1.0,
    early_stopping: Annotated[bool, typer.Option("--early-stopping", help="End when there are enough texts.")] = False,
    max_new_tokens: MaxNewTokens = 50,
    repetition_penalty: RepetitionPenalty = 1.0,
    no_repeat_ngram_size: NoRepeatNgramSize = 0,
    logit_bias: LogitBias = None,
    bad_words: BadWords = None,
    min_new_tokens: MinNewTokens = 0,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    as_json: AsJson = False,
) -> None:
    """Search for the most probable continuations of a prompt, as transformers' beam search does."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli import report_generate as report
    from max_gpt2.cli.console import with_clock
    from max_gpt2.cli.standard_input import piped_text
    from max_gpt2.generation import BeamSearch, Request, Sampling, check_request, open_model

    how = BeamSearch(num_beams, length_penalty, early_stopping)
    opened = open_model(model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels))
    sampling = Sampling(
        temperature=0,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        logit_bias=biases(logit_bias),
        bad_words=bans(bad_words, opened.tokenizer),
        min_new_tokens=min_new_tokens,
    )
    text = piped_text() if prompt is None and prompt_ids is None else prompt
    request = Request(prompt_tokens(opened.tokenizer, text, prompt_ids), max_new_tokens, sampling)
    check_request(opened.config, opened.tokenizer, request)
    engine = opened.load(with_clock).engine
    found = with_clock("Searching", lambda: engine.beam_search(request, how))
    print_json(report.beam_facts(model, request, found)) if as_json else report.show_beams(found)
