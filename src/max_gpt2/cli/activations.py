"""The command that keeps activations: `max-gpt2 activations`."""

from typing import Annotated

import typer

from max_gpt2.cli.corpus import (
    Address,
    CorpusOptions,
    IdColumn,
    KeepColumn,
    Shard,
    TextColumn,
    ThreadsPerWorker,
    WhichEngine,
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
    Model,
    Tokenizer,
    WhichWeights,
    parse_adapters,
)
from max_gpt2.errors import RequestError

Source = Annotated[
    str, typer.Option("--input", metavar="FILES", help="Trace each line or row of a file, a folder or a glob.")
]
Target = Annotated[
    str, typer.Option("--output", metavar="OUT", help="Write a folder of safetensors files; rerun to resume.")
]


def activations(
    at: Annotated[
        list[str], typer.Option("--at", metavar="NAMES", help="Activations, such as h.5,h.11.mlp or h.*; repeatable.")
    ],
    input_file: Source,
    output_file: Target,
    model: Model = "demo",
    bos: Annotated[bool, typer.Option("--bos/--no-bos", help="Start each text with the BOS token.")] = False,
    force: Force = False,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    keep_column: KeepColumn = None,
    part_rows: Annotated[
        int, typer.Option("--part-rows", metavar="N", help="Rows of the input in a part, which is kept in memory.")
    ] = 100,
    shard: Shard = None,
    workers: Workers = None,
    threads_per_worker: ThreadsPerWorker = None,
    engine: WhichEngine = None,
    address: Address = None,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Write activations of texts to safetensors files.

    docs/activations.md lists the names. The exit code is 1 when a row fails, and 2 when a part is missing.
    """
    from max_gpt2.batch.corpus.activations import ActivationsTask
    from max_gpt2.checkpoint import LoadOptions

    if not is_folder(output_file):
        raise RequestError(f"--output {output_file} is not a folder. Add a slash: {output_file}/.")
    names = tuple(name for value in at for name in value.split(",") if name)
    if not names:
        raise RequestError("--at is empty. Name an activation, for example --at h.5.")
    options = CorpusOptions(keep_column, "safetensors", part_rows, shard, workers, threads_per_worker, engine, address)
    load = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, "mojo", parse_adapters(adapter), weights)
    files, columns = (input_file, output_file, force), (text_column, id_column)
    run_task(ActivationsTask(names, bos), files, columns, (model, load), options, as_json)
