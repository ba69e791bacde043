"""What `max-gpt2 generate --input` and `max-gpt2 score --input` show."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from max_gpt2.batch import (
    Answers,
    InputFile,
    OutputFile,
    Record,
    Tally,
    check_defaults,
    generation_answers,
    generation_options,
    identity,
    kept_on_ctrl_c,
    score_answers,
    write_answers,
)
from max_gpt2.cli.console import line_bar, numeric, stdout, table
from max_gpt2.errors import RequestError
from max_gpt2.generation import Loaded, OpenedModel, Request

Load = Callable[[], Loaded]


@dataclass(frozen=True)
class Files:
    """What is read and what is written; `force` replaces an output that is of another run."""

    source: Path
    target: Path | None
    force: bool = False


def generate_lines(
    model: str, opened: OpenedModel, defaults: Request, files: Files, load: Load, batch_size: int
) -> dict[str, Any]:
    """Continue each line that the output does not have yet, `batch_size` at a time, with a bar.

    Returns what came of it, as JSON values. Raises MaxGPT2Error when the files or the options cannot be used.
    """
    if files.target is None:
        raise RequestError("--input needs a file to write the texts into. Add --output FILE.")
    check_defaults(opened, defaults)
    source = InputFile.look_at(files.source, "prompt")
    run, tally = identity("generate", source, opened, generation_options(defaults)), Tally()
    with OutputFile(files.target, run, seed=defaults.sampling.seed, force=files.force) as output:
        kept = _fill(
            output, source, tally, lambda: generation_answers(load().engine, defaults, output.seed, batch_size)
        )
    return {**_facts(model, files, source, kept, tally), "seed": output.seed}


def score_lines(model: str, opened: OpenedModel, files: Files, load: Load) -> dict[str, Any]:
    """Score each line that the output does not have yet, with a bar; return what came of it, as JSON values.

    Without an output the scores are in the values, too. Raises MaxGPT2Error when the files cannot be used.
    """
    source, tally, texts, kept = InputFile.look_at(files.source, "text"), Tally(), list[Record](), 0
    if files.target is None:
        answers = score_answers(load().engine)
        with line_bar("Scoring", len(source.numbers), 0) as advance:
            tell = _told(source, tally, advance)
            for record in answers(source.lines(0)):
                tell(record)
                texts.append(record)
    else:
        run = identity("score", source, opened, {})
        with OutputFile(files.target, run, seed=0, force=files.force) as output:
            kept = _fill(output, source, tally, lambda: score_answers(load().engine))
    return {
        **_facts(model, files, source, kept, tally),
        "logprob": tally.logprob,
        "perplexity": tally.perplexity,
        **({} if files.target else {"texts": texts}),
    }


def show_generated(facts: dict[str, Any]) -> None:
    """Print the facts of `generate_lines` as a sentence."""
    print(f"{_how_many(facts)}, seed {facts['seed']}.")


def show_scored(facts: dict[str, Any]) -> None:
    """Print the facts of `score_lines`: a row for each text unless they are in a file, and all of them together."""
    if "texts" in facts:
        rows = [
            [str(one["line"]), str(one.get("id", "")), *(["", "error", ""] if "error" in one else _numbers(one))]
            for one in facts["texts"]
        ]
        columns = numeric("tokens", "log probability", "perplexity")
        stdout.print(table(("line", "right"), ("id", "left"), *columns, rows=rows))
    print(f"{_how_many(facts)}.")
    if facts["perplexity"] is not None:
        print(f"All together: log probability {facts['logprob']:.4f}, perplexity {facts['perplexity']:.4f}")


def _fill(output: OutputFile, source: InputFile, tally: Tally, make_answers: Callable[[], Answers]) -> int:
    """Answer the lines that an output does not have yet; return how many it had."""
    total = len(source.numbers)
    with kept_on_ctrl_c(output, total):
        output.keep(source, tally.add)
        kept = output.done
        if kept < total:
            answers = make_answers()
            with line_bar("Working", total, kept) as advance:
                write_answers(source, output, answers, _told(source, tally, advance))
    return kept


def _told(source: InputFile, tally: Tally, advance: Callable[[str], None]) -> Callable[[Record], None]:
    """Return what takes each record: it counts it, names one that is an error, and moves the bar."""
    started, before = time.perf_counter(), tally.tokens

    def tell(record: Record) -> None:
        tally.add(record)
        if "error" in record:
            print(f"error: {source.path}, line {record['line']}: {record['error']}", file=sys.stderr)
        advance(f"{(tally.tokens - before) / (time.perf_counter() - started):.0f} tokens/s")

    return tell


def _facts(model: str, files: Files, source: InputFile, kept: int, tally: Tally) -> dict[str, Any]:
    return {
        "model": model,
        "input": str(files.source),
        "output": str(files.target) if files.target else None,
        "lines": len(source.numbers),
        "kept": kept,
        "errors": tally.errors,
        "tokens": tally.tokens,
    }


def _how_many(facts: dict[str, Any]) -> str:
    total, kept, errors = facts["lines"], facts["kept"], facts["errors"]
    before = ", finished already" if kept == total else f", {kept} of them from before" if kept else ""
    counts = f"{_plural(total, 'line')}{before}, {_plural(errors, 'error')}, {_plural(facts['tokens'], 'token')}"
    return f"{facts['output'] or facts['input']}: {counts}"


def _plural(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{f'{count:,}' if count else 'no'} {noun}s"


def _numbers(record: Record) -> list[str]:
    return [str(len(record["tokens"])), f"{record['logprob']:.4f}", f"{record['perplexity']:.4f}"]
