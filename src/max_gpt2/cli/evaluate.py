"""The command for benchmarks: `max-gpt2 eval`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from max_gpt2.cli.options import (
    DEFAULT_WEIGHTS,
    Adapters,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Model,
    Tokenizer,
    WhichKernels,
    WhichWeights,
    parse_adapters,
    print_json,
)

if TYPE_CHECKING:
    from max_gpt2.scoring.evaluation import Evaluation

#: Set to 1 when standard error is not a terminal. Each library reads its own while it is imported.
_NO_PROGRESS_BARS = ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS")


def eval(  # noqa: A001  (the name of the command)
    tasks: Annotated[
        str, typer.Option(metavar="NAME,...", help="Tasks of lm-evaluation-harness, or YAML files of your own.")
    ],
    model: Model = "demo",
    num_fewshot: Annotated[int | None, typer.Option(help="Examples before each question; default: the task's.")] = None,
    limit: Annotated[
        float | None, typer.Option(help="Documents per task, or a fraction of them below 1. For tests only.")
    ] = None,
    include_path: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also find tasks in the YAML files of DIR.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write results_*.json and samples_*.jsonl into DIR.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts generated at a time; changes no result.")] = 8,
    gen_kwargs: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,...", help="Override the tasks' generation_kwargs.")
    ] = None,
    use_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the model's answers in FILE*.db, and use them again.")
    ] = None,
    cache_requests: Annotated[
        Literal["true", "refresh", "delete"] | None, typer.Option(help="Use the harness's cache of prepared requests.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for examples and sampling; default: the harness's.")] = None,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Run benchmarks of lm-evaluation-harness."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.errors import MissingExtraError
    from max_gpt2.generation import open_model
    from max_gpt2.generation.fingerprint import fingerprint

    if not sys.stderr.isatty():
        for name in _NO_PROGRESS_BARS:
            os.environ.setdefault(name, "1")
    try:
        from max_gpt2.scoring.evaluation import EvaluationOptions, evaluate
        from max_gpt2.scoring.harness import SEED, MaxGPT2LM
    except ImportError as error:
        raise MissingExtraError(
            f"eval needs lm-evaluation-harness 0.4.13 ({error}). Install it: pip install 'max-gpt2[eval]'"
        ) from error
    opened = open_model(
        model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter), weights)
    )
    # The harness's cache does not know which model an answer is from.
    cache = None if use_cache is None else f"{use_cache}-{fingerprint(opened)[:16]}"
    options = EvaluationOptions(num_fewshot, limit, include_path, output, cache, cache_requests, gen_kwargs, seed)
    language_model = MaxGPT2LM(opened, batch_size=batch_size, seed=SEED if seed is None else seed, run=run_with_timer)
    names = [name.strip() for name in tasks.split(",")]
    found = evaluate(language_model, model, names, options, run_with_timer)
    if language_model.truncated:
        noun = "request was" if language_model.truncated == 1 else "requests were"
        print(
            f"warning: {language_model.truncated} {noun} longer than the context of {language_model.max_length} tokens "
            "and lost the beginning, as in the harness.",
            file=sys.stderr,
        )
    print_json(_to_dict(model, found, language_model.truncated)) if as_json else _show(found)


def _to_dict(model: str, found: "Evaluation", truncated: int) -> dict[str, Any]:
    names = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better", "lm_eval_version")
    return {
        "model": model,
        **{name: found.results[name] for name in names if name in found.results},
        "truncated_requests": truncated,
        "files": list(map(str, found.files)),
    }


def _show(found: "Evaluation") -> None:
    """Print a row per metric, and the files written."""
    from max_gpt2.cli.console import Align, numeric, stdout, table
    from max_gpt2.scoring.evaluation import metric_rows

    rows = metric_rows(found.results)
    names = ("task", "n-shot", "metric", "filter", "value", "stderr")
    columns: list[tuple[str, Align]] = [(name, "left") for name in names[:4]] + numeric(*names[4:])
    shown = table(*columns, rows=rows)
    for column in shown.columns:
        column.overflow = "fold"  # a long name continues in the next line
    stdout.print(shown)
    for path in found.files:
        print(f"Wrote {path}")
