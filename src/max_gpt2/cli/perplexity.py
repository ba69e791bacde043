"""The perplexity command: `max-gpt2 perplexity`."""

from pathlib import Path
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
    Tokenizer,
    WhichKernels,
    WhichWeights,
    check_columns,
    check_files,
    parse_adapters,
    print_json,
)
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.scoring.measurement import PerplexityReport


def perplexity(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A text file in UTF-8: one text.")] = None,
    # The names repeat scoring.protocols.ProtocolName: typer needs a Literal at import time.
    protocol: Annotated[
        Literal["all", "disjoint", "strided", "rolling", "lm-eval", "llama.cpp"],
        typer.Option(help="The protocol; docs/perplexity.md defines them."),
    ] = "all",
    window: Annotated[
        int | None,
        typer.Option(metavar="N", help="Tokens per window (default: the context; for llama.cpp at most 512)."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens between windows of strided (default: half a window).")
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="Add a BOS token where the protocol leaves it open (default: no)."),
    ] = None,
    input_file: Input = None,
    output_file: Annotated[
        str | None, typer.Option("--output", metavar="OUT", help="With --input: a folder of parts; rerun to resume.")
    ] = None,
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
    model: Model = "demo",
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Compute the perplexity of a text as other programs define it.

    With all protocols, --stride and --bos apply to those that leave them open. With --input, measure each line or row
    under one --protocol, and write the results as parts that any number of processes can share; the exit code is 1
    when a row fails.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.generation import open_model
    from max_gpt2.scoring import load_scorer
    from max_gpt2.scoring.measurement import PerplexityOptions, measure, plan_perplexity, read_text

    options = PerplexityOptions([] if protocol == "all" else [protocol], window, stride, bos)
    load_options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter), weights)
    own = CorpusOptions(keep_column, format_, part_rows, shard, workers, threads_per_worker, engine, address)
    check_files(None if file is None else str(file), None, input_file, output_file, force)
    if input_file is not None:
        from max_gpt2.batch.corpus.tasks import PerplexityTask

        if output_file is None or not is_folder(output_file):
            raise RequestError("--input needs --output with a folder. Add --output FOLDER/, for example results/.")
        paths, columns = (input_file, output_file, force), (text_column, id_column)
        run_task(PerplexityTask(options), paths, columns, (model, load_options), own, as_json)
    own.check_absent(output_file)
    check_columns(input_file, text_column, id_column)
    if file is None:
        raise RequestError("There is no text. Give a text file, or --input and --output.")
    text = read_text(file)
    opened = open_model(model, load_options)
    plans, report = plan_perplexity(opened.config, opened.tokenizer, text, options)
    scorer = load_scorer(opened, run_with_timer)
    report = run_with_timer("Scoring", lambda: measure(scorer, plans, report))
    values = {"model": model, "file": str(file), **report.to_dict()}
    print_json(values) if as_json else _show(values, report)


def _show(values: dict[str, Any], report: "PerplexityReport") -> None:
    """Print a row per perplexity, the tokens that count, and a sentence per protocol that was not computed."""
    from max_gpt2.cli.console import numeric, stdout, table

    rows = [
        [
            one.protocol,
            str(one.window),
            str(one.stride),
            "yes" if one.bos else "no",
            one.denominator,
            str(one.count),
            f"{one.nll:.2f}",
            f"{one.perplexity:.6g}",
            f"{one.bits_per_byte:.4f}",
        ]
        for one in report.results
    ]
    print(f"{values['model']}, {values['file']}: {_counts(report)}")
    left = [("protocol", "left"), *numeric("window", "stride"), ("BOS", "left"), ("per", "left")]
    shown = table(*left, *numeric("count", "NLL", "perplexity", "bits/byte"), rows=rows)
    shown.box, shown.pad_edge = None, False  # 80 columns
    stdout.print(shown)
    print("NLL is in nats; the perplexity is exp(NLL / count). Tokens that count:")
    for name, one in {one.protocol: one for one in report.results}.items():
        print(f"  {name}: {one.scored_tokens:,}, {one.counted} ({one.source})")
    for name, reason in report.skipped.items():
        print(f"{name}: not computed. {reason}")


def _counts(report: "PerplexityReport") -> str:
    return f"{report.tokens:,} tokens, {report.words:,} words, {report.bytes:,} bytes"
