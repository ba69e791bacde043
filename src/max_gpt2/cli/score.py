"""The scoring command: `max-gpt2 score`."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from max_gpt2.cli.options import (
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
    check_files,
    parse_adapters,
    print_json,
    prompt_tokens,
)

if TYPE_CHECKING:
    from max_gpt2.scoring import Score
    from max_gpt2.tokenizer import GPT2Tokenizer


def score(
    text: Annotated[str | None, typer.Argument(help="The text to score.")] = None,
    model: Model = "demo",
    prompt_ids: PromptIds = None,
    input_file: Input = None,
    output_file: Output = None,
    force: Force = False,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    as_json: AsJson = False,
) -> None:
    """Compute the log probability of each token, and the perplexity.

    With --input, score each line of a file. The exit code is 1 when a line fails.
    """
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.errors import RequestError
    from max_gpt2.generation import open_model
    from max_gpt2.scoring import ScoreOptions, load_scorer, score_texts

    check_files(text, prompt_ids, input_file, output_file, force)
    opened = open_model(model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter)))
    if input_file:
        from max_gpt2.batch import BatchFiles, score_file
        from max_gpt2.cli.batch import show_progress, show_scores

        load = partial(load_scorer, opened, run_with_timer)
        files = BatchFiles(input_file, output_file, force)
        summary = score_file(opened, files, load, partial(show_progress, "Scoring", input_file))
        values = {"model": model, **summary.to_dict()}
        print_json(values) if as_json else show_scores(values)
        raise typer.Exit(1 if summary.totals.errors else 0)
    tokens = prompt_tokens(opened.tokenizer, text, prompt_ids)
    scorer = load_scorer(opened, run_with_timer)
    (scored,) = run_with_timer("Scoring", lambda: list(score_texts(scorer, [tokens], ScoreOptions(bos=False))))
    if isinstance(scored, RequestError):
        raise scored
    print_json(_to_dict(model, scored)) if as_json else _show_score(scored, opened.tokenizer)


def _to_dict(model: str, scored: "Score") -> dict[str, Any]:
    return {
        "model": model,
        "tokens": scored.tokens,
        "logprobs": [row["logprob"] for row in scored.rows()],
        "logprob": scored.logprob,
        "perplexity": scored.perplexity,
    }


def _show_score(scored: "Score", tokenizer: "GPT2Tokenizer") -> None:
    """Print a row per token, then the totals."""
    from max_gpt2.cli.console import stdout, table

    rows = [
        [str(row["id"]), repr(tokenizer.decode([row["id"]])), "" if row["logprob"] is None else f"{row['logprob']:.4f}"]
        for row in scored.rows()
    ]
    stdout.print(table(("id", "right"), ("token", "left"), ("log probability", "right"), rows=rows))
    print(f"log probability {scored.logprob:.4f}, perplexity {scored.perplexity:.4f}")
