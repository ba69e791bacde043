"""The generation commands: `max-gpt2 generate` and `max-gpt2 beams`."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from max_gpt2.cli.corpus import (
    Address,
    CorpusOptions,
    IdColumn,
    KeepColumn,
    PartRows,
    PromptColumn,
    Shard,
    ThreadsPerWorker,
    WhichEngine,
    WhichFormat,
    Workers,
    is_folder,
    run_task,
)
from max_gpt2.cli.options import (
    DEFAULT_WEIGHTS,
    Adapters,
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
    WhichWeights,
    check_columns,
    check_files,
    encode_bad_words,
    parse_adapters,
    parse_ids,
    parse_logit_bias,
    print_json,
    prompt_tokens,
    report_start,
)
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.generation import BeamOutput, Generation, Loaded, Request

MaxNewTokens = Annotated[int, typer.Option(help="Maximum number of tokens to generate.")]
RepetitionPenalty = Annotated[
    float, typer.Option(help="Above 1, tokens of the prompt and the output become less likely.")
]
NoRepeatNgramSize = Annotated[int, typer.Option(help="Never repeat an n-gram of this size; 0 turns it off.")]
LogitBias = Annotated[
    list[str] | None, typer.Option(metavar="ID=NUMBER", help="Add NUMBER to the logit of token ID; repeatable.")
]
StopIds = Annotated[str | None, typer.Option(metavar="IDS", help="Stop at one of these token ids, such as 50256,198.")]
BadWords = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="Never generate the tokens of TEXT; repeatable.")
]
MinNewTokens = Annotated[int, typer.Option(help="Do not end before this many new tokens.")]


def generate(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    max_new_tokens: MaxNewTokens = 50,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Sample from the K most likely tokens; 0 turns it off.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the most likely tokens with this total probability.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Drop tokens less likely than MIN_P times the most likely token.")] = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    presence_penalty: Annotated[
        float, typer.Option(help="Subtract from the logit of every token generated so far.")
    ] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="Subtract for each time a token was generated.")] = 0.0,
    no_repeat_ngram_size: NoRepeatNgramSize = 0,
    logit_bias: LogitBias = None,
    bad_words: BadWords = None,
    min_new_tokens: MinNewTokens = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="Stop before this text or at this special token; repeatable.")
    ] = None,
    stop_ids: StopIds = None,
    context_overflow: Annotated[
        Literal["stop", "shift"],
        typer.Option(help="When the context is full: stop, or keep its last half and continue."),
    ] = "stop",
    logprobs: Annotated[
        int | None, typer.Option(help="With --json: report logprobs, with this many alternatives.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed generates the same text.")] = None,
    n: Annotated[int, typer.Option("--n", help="Generate N sequences, with seeds SEED, SEED + 1, ...")] = 1,
    input_file: Input = None,
    output_file: Output = None,
    force: Force = False,
    text_column: PromptColumn = None,
    id_column: IdColumn = None,
    keep_column: KeepColumn = None,
    format_: WhichFormat = None,
    part_rows: PartRows = None,
    shard: Shard = None,
    workers: Workers = None,
    threads_per_worker: ThreadsPerWorker = None,
    engine: WhichEngine = None,
    address: Address = None,
    batch_size: Annotated[int, typer.Option(help="With --input or --n: number of sequences to generate at once.")] = 8,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    speculate: Annotated[
        str | None,
        typer.Option("--speculate", metavar="ngram|MODEL", help="Draft tokens and check them: the same text, faster."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt, each line of a file, or prompts you type.

    With --input, continue each line or row; the exit code is 1 when one fails. With an --output that is a folder, write
    it as parts that any number of processes can share. Without a prompt, read prompts from the terminal or one prompt
    from a pipe.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer, stream_to_stdout
    from max_gpt2.cli.process import is_interactive, read_piped_text
    from max_gpt2.generation import Request, SamplingParams, check_request, open_model, open_speculation

    check_files(prompt, prompt_ids, input_file, output_file, force)
    if logprobs is not None and not as_json and not input_file:
        raise RequestError("--logprobs is only reported as JSON. Add --json.")
    load_options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter), weights)
    opened = open_model(model, load_options)
    sampling = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        logit_bias=parse_logit_bias(logit_bias),
        bad_words=encode_bad_words(bad_words, opened.tokenizer),
        min_new_tokens=min_new_tokens,
        seed=seed,
    )
    ends = tuple(parse_ids("--stop-ids", stop_ids))
    options = Request((), max_new_tokens, sampling, stop or (), ends, logprobs, context_overflow)
    interactive = prompt is None and prompt_ids is None and not input_file and not as_json and is_interactive()
    if n != 1 and (input_file or interactive):
        raise RequestError("--n needs a single prompt. Give a text or --prompt-ids, or remove --n.")
    drafting = None if speculate is None else open_speculation(speculate, opened)
    load = partial(opened.load, run_with_timer, drafting)
    own = CorpusOptions(keep_column, format_, part_rows, shard, workers, threads_per_worker, engine, address)
    if input_file is not None and output_file is not None and is_folder(output_file):
        from max_gpt2.batch.corpus.tasks import GenerateTask

        if drafting is not None:
            raise RequestError("--speculate cannot be used with a folder as --output. Remove it.")
        paths, columns = (input_file, output_file, force), (text_column, id_column)
        run_task(GenerateTask(options, batch_size), paths, columns, (model, load_options), own, as_json)
    own.check_absent(output_file)
    check_columns(input_file, text_column, id_column)
    if input_file:
        from max_gpt2.batch import generate_file
        from max_gpt2.cli.batch import batch_files, show_generated, show_progress

        files = batch_files(input_file, output_file, force, (text_column, id_column))
        progress = partial(show_progress, "Generating", files.source)
        summary = generate_file(opened, options, files, load, progress, batch_size=batch_size)
        values = {"model": model, **summary.to_dict()}
        print_json(values) if as_json else show_generated(values)
        raise typer.Exit(1 if summary.totals.errors else 0)
    if interactive:
        from max_gpt2.cli.repl import PromptLoop

        check_request(opened.config, opened.tokenizer, replace(options, prompt_tokens=[0]))
        PromptLoop(load(), options).run()
        return
    prompt = read_piped_text() if prompt is None and prompt_ids is None else prompt
    request = replace(options, prompt_tokens=prompt_tokens(opened.tokenizer, prompt, prompt_ids))
    requests = request.samples(n)
    check_request(opened.config, opened.tokenizer, request)
    loaded = load()
    report_start(opened.tokenizer, prompt, prompt_ids)
    if as_json:
        found = run_with_timer("Generating", lambda: list(loaded.engine.generate_all(requests, batch_size)))
        print_json(_generations_to_dict(model, loaded, found))
    elif n == 1:
        stream_to_stdout(loaded, requests[0])
    else:
        _show_samples(loaded, requests, batch_size)


def beams(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    num_beams: Annotated[int, typer.Option(help="Number of beams, and of sequences returned.")] = 4,
    length_penalty: Annotated[
        float, typer.Option(help="Above 0 favours longer sequences, below 0 shorter ones.")
    ] = 1.0,
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping", help="Stop as soon as NUM_BEAMS sequences have ended.")
    ] = False,
    max_new_tokens: MaxNewTokens = 50,
    repetition_penalty: RepetitionPenalty = 1.0,
    no_repeat_ngram_size: NoRepeatNgramSize = 0,
    logit_bias: LogitBias = None,
    bad_words: BadWords = None,
    min_new_tokens: MinNewTokens = 0,
    stop_ids: StopIds = None,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Find the most probable continuations with beam search."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.cli.process import read_piped_text
    from max_gpt2.generation import BeamSearch, Request, SamplingParams, check_request, open_model

    how = BeamSearch(num_beams, length_penalty, early_stopping)
    opened = open_model(
        model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter), weights)
    )
    sampling = SamplingParams(
        temperature=0,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        logit_bias=parse_logit_bias(logit_bias),
        bad_words=encode_bad_words(bad_words, opened.tokenizer),
        min_new_tokens=min_new_tokens,
    )
    text = read_piped_text() if prompt is None and prompt_ids is None else prompt
    tokens = prompt_tokens(opened.tokenizer, text, prompt_ids)
    request = Request(tokens, max_new_tokens, sampling, stop_ids=parse_ids("--stop-ids", stop_ids))
    check_request(opened.config, opened.tokenizer, request, can_shift=False)
    engine = opened.load(run_with_timer).engine
    report_start(opened.tokenizer, text, prompt_ids)
    found = run_with_timer("Searching", lambda: engine.beam_search(request, how))
    if as_json:
        sequences = [asdict(one) for one in found]
        print_json({"model": model, "prompt_tokens": list(request.prompt_tokens), "sequences": sequences})
    else:
        _show_beams(found)


def _generations_to_dict(model: str, loaded: "Loaded", generations: Sequence["Generation"]) -> dict[str, Any]:
    """Return the output of `max-gpt2 generate` as JSON values: one sequence, or a list of several."""
    load_timing = {"load_s": loaded.load_s, "compile_s": loaded.compile_s}
    speculating = loaded.engine.speculation is not None
    sequences = [_generation_to_dict(one, speculating) for one in generations]
    if len(sequences) > 1:
        return {"model": model, "sequences": sequences, "timing": load_timing}
    return {"model": model, **sequences[0], "timing": load_timing | sequences[0]["timing"]}


def _generation_to_dict(generation: "Generation", speculating: bool) -> dict[str, Any]:
    return {
        "prompt_tokens": generation.prompt_tokens,
        "tokens": generation.tokens,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "seed": generation.seed,
        "logprobs": [asdict(one) for one in generation.logprobs],
        "timing": asdict(generation.timing),
        **({"drafts": asdict(generation.drafts)} if speculating else {}),
    }


def _show_samples(loaded: "Loaded", requests: Sequence["Request"], batch_size: int) -> None:
    """Print the prompt with each continuation, in order, as soon as it is complete."""
    from max_gpt2.cli.console import stderr

    started, count = time.perf_counter(), 0
    prompt = loaded.engine.tokenizer.decode(requests[0].prompt_tokens)
    for number, one in enumerate(loaded.engine.generate_all(requests, batch_size), 1):
        print(f"--- {number} of {len(requests)}, seed {one.seed}\n{prompt}{one.text}", flush=True)
        count += len(one.tokens)
    speed = count / (time.perf_counter() - started)
    stderr.print(f"[dim]{count} tokens, {speed:.1f} tokens/s[/dim]")


def _show_beams(sequences: Sequence["BeamOutput"]) -> None:
    """Print the sequences, best score first."""
    from max_gpt2.cli.console import numeric, stdout, table

    rows = [[f"{one.score:.4f}", f"{one.logprob:.4f}", one.finish_reason, one.text] for one in sequences]
    columns = (*numeric("score", "log probability"), ("finish reason", "left"), ("text", "left"))
    stdout.print(table(*columns, rows=rows))
