"""The scoring command: `max-gpt2 score`."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from max_gpt2.cli.corpus import (
    Address,
    CorpusOptions,
    IdColumn,
    KeepColumn,
    PartRows,
    Shard,
    TextColumn,
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
    PromptIds,
    Tokenizer,
    WhichKernels,
    WhichWeights,
    check_columns,
    check_files,
    parse_adapters,
    parse_ids,
    print_json,
)
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.cli.console import Align
    from max_gpt2.generation import ModelSource
    from max_gpt2.scoring import Score, ScoreOptions

Cell = Callable[[dict[str, Any]], str]

# The values repeat scoring.Unit and scoring.Base: typer needs a Literal at import time.
WhichUnit = Annotated[
    Literal["token", "word", "sentence", "line", "text"],
    typer.Option("--unit", help="Report each token, word, sentence or line, or the whole text."),
]
WhichBase = Annotated[
    Literal["e", "2", "10"], typer.Option("--base", help="The base of all logarithms: nats, bits or hartleys.")
]
Output = Annotated[
    str | None,
    typer.Option("--output", metavar="OUT", help="Write a .jsonl, .tsv or .parquet file, or a folder of parts."),
]


def score(
    text: Annotated[str | None, typer.Argument(help="The text to score.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    input_file: Input = None,
    output_file: Output = None,
    force: Force = False,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    keep_column: KeepColumn = None,
    format_: WhichFormat = None,
    part_rows: PartRows = None,
    shard: Shard = None,
    workers: Workers = None,
    threads_per_worker: ThreadsPerWorker = None,
    engine: WhichEngine = None,
    address: Address = None,
    bos: Annotated[
        bool, typer.Option("--bos/--no-bos", help="Start with the BOS token, so that the first token has a score.")
    ] = True,
    unit: WhichUnit = "token",
    base: WhichBase = "e",
    ranks: Annotated[
        bool, typer.Option("--ranks", help="Report the rank of each token, 1 for the most likely.")
    ] = False,
    entropy: Annotated[bool, typer.Option("--entropy", help="Report the entropy of each distribution.")] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", help="Report the N most likely tokens at each place.")] = 0,
    window: Annotated[
        int | None, typer.Option("--window", help="Maximum number of ids a token is conditioned on.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Tokens scored by each window of a long text (half of --window).")
    ] = None,
    word_boundary_correction: Annotated[
        bool,
        typer.Option("--word-boundary-correction", help="Correct word probabilities for tokens with a leading space."),
    ] = False,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Compute the surprisal of tokens or words, and the perplexity.

    With --input, score each line or row. With an --output that is a folder, write it as parts that any number of
    processes can share. The exit code is 1 when a line fails.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.generation import open_model
    from max_gpt2.scoring import ScoreOptions

    check_files(text, prompt_ids, input_file, output_file, force)
    check_columns(input_file, text_column, id_column)
    options = ScoreOptions(bos, unit, base, window, stride, ranks, entropy, top, word_boundary_correction)
    load_options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter), weights)
    own = CorpusOptions(keep_column, format_, part_rows, shard, workers, threads_per_worker, engine, address)
    if input_file is not None and output_file is not None and is_folder(output_file):
        from max_gpt2.batch.corpus.tasks import ScoreTask

        paths, columns = (input_file, output_file, force), (text_column, id_column)
        run_task(ScoreTask(options), paths, columns, (model, load_options), own, as_json)
    own.check_absent(output_file)
    opened = open_model(model, load_options)
    if input_file is None:
        scored = _score_one(opened, _text_or_ids(text, prompt_ids), options)
        print_json({"model": model, **scored.to_dict()}) if as_json else _show_score(scored)
        return
    from max_gpt2.batch import score_file
    from max_gpt2.cli.batch import batch_files, show_progress, show_scores
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.scoring import load_scorer

    files = batch_files(input_file, output_file, force, (text_column, id_column))
    load = partial(load_scorer, opened, run_with_timer)
    summary = score_file(opened, options, files, load, partial(show_progress, "Scoring", files.source))
    values = {"model": model, **summary.to_dict()}
    print_json(values) if as_json else show_scores(values)
    raise typer.Exit(1 if summary.totals.errors else 0)


def _text_or_ids(text: str | None, prompt_ids: str | None) -> str | list[int]:
    """Return the text, or the ids of --prompt-ids; raises RequestError unless exactly one is given."""
    if prompt_ids is None:
        if text is None:
            raise RequestError("There is no text. Give a text, --prompt-ids or --input.")
        return text
    if text is not None:
        raise RequestError("Both a text and --prompt-ids are given. Give only one of them.")
    return parse_ids("--prompt-ids", prompt_ids)


def _score_one(opened: "ModelSource", source: str | list[int], options: "ScoreOptions") -> "Score":
    """Load the model and score one text; raises RequestError when it or an option is invalid."""
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.errors import UnknownTextWarning
    from max_gpt2.scoring import load_scorer, score_texts, tokenize_text

    options.resolve(opened.config)
    with warnings.catch_warnings():  # an error before the weights are loaded; a warning only once
        warnings.simplefilter("ignore", UnknownTextWarning)
        tokenize_text(opened.tokenizer, opened.config, source, options)
    scorer = load_scorer(opened, run_with_timer)
    (scored,) = run_with_timer("Scoring", lambda: list(score_texts(scorer, [source], options)))
    if isinstance(scored, RequestError):
        raise scored
    return scored


def _show_score(scored: "Score") -> None:
    """Print a row per unit with the requested columns, then the totals."""
    from max_gpt2.cli.batch import describe_totals
    from max_gpt2.cli.console import stdout, table

    if not scored.tokens:
        print("The text is empty, so there is nothing to score.")
        return
    options = scored.options
    is_long = options.window is not None and len(scored.tokens) + options.bos - 1 > options.window
    columns = _columns(options, is_long)
    rows = [[cell(row) for _, _, cell in columns] for row in scored.rows()]
    stdout.print(table(*((name, align) for name, align, _ in columns), rows=rows))
    if is_long and options.window and options.stride:
        least = options.window - options.stride + 1
        span = f"{least} to {options.window}" if least < options.window else str(least)
        print(
            f"The text is longer than the window of {options.window} ids. With stride {options.stride}, each token "
            f"after the first window has {span} ids of context."
        )
    print(describe_totals(scored.to_dict(), len(scored.tokens)))


def _columns(options: "ScoreOptions", has_context: bool) -> "list[tuple[str, Align, Cell]]":
    """Return the columns of the table: for each its name, its alignment, and the function that formats its cells."""
    measure = options.unit_of_information
    columns: list[tuple[str, Align, Cell]] = [
        (options.unit, "left", lambda row: _quoted(row["text"])),
        ("span", "right", lambda row: f"{row['start']}:{row['end']}"),
        ("log probability", "right", lambda row: _decimals(row["logprob"])),
        (f"surprisal ({measure})", "right", lambda row: _decimals(row["surprisal"])),
    ]
    if options.unit == "token":
        columns.insert(0, ("id", "right", lambda row: str(row["id"])))
    if options.ranks:
        columns.append(("rank", "right", lambda row: "" if row["rank"] is None else str(row["rank"])))
    if options.entropy:
        columns.append((f"entropy ({measure})", "right", lambda row: _decimals(row["entropy"])))
    if has_context:
        columns.append(("context", "right", lambda row: str(row["context"])))
    if options.top:
        columns.append(("most likely tokens", "left", lambda row: _alternatives(row["top"])))
    return columns


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _quoted(text: str) -> str:
    """Return a text in quotes, with escapes for control characters only; bytes in it may be escaped already."""
    return f"'{''.join(one if one.isprintable() else one.encode('unicode_escape').decode() for one in text)}'"


def _alternatives(top: list[dict[str, Any]] | None) -> str:
    return "\n".join(f"{_quoted(one['text'])} {one['logprob']:.4f}" for one in top or [])
