"""What `max-gpt2 generate --input` shows."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from max_gpt2.batch_files import (
    InputFile,
    OutputFile,
    Record,
    Tally,
    check_defaults,
    generation_answer,
    generation_options,
    identity,
    kept_on_ctrl_c,
    write_answers,
)
from max_gpt2.console import line_bar
from max_gpt2.generation import Loaded, OpenedModel, Request


@dataclass(frozen=True)
class Files:
    """What is read and what is written; `force` replaces an output that is of another run."""

    source: Path
    target: Path
    force: bool = False


def generate_lines(
    model: str, opened: OpenedModel, defaults: Request, files: Files, load: Callable[[], Loaded]
) -> dict[str, Any]:
    """Continue each line that the output does not have yet, with a bar; return what came of it, as JSON values."""
    check_defaults(opened, defaults)
    source = InputFile.look_at(files.source, "prompt")
    run = identity("generate", source, opened, generation_options(defaults))
    tally, total = Tally(), len(source.numbers)
    with (
        OutputFile(files.target, run, seed=defaults.sampling.seed, force=files.force) as output,
        kept_on_ctrl_c(output, total),
    ):
        output.keep(source, tally.add)
        kept = output.done
        if kept < total:
            engine = load().engine
            with line_bar("Writing", total, kept) as advance:
                answer = generation_answer(engine, defaults, output.seed)
                write_answers(source, output, answer, _told(files.source, tally, advance))
    return {
        "model": model,
        "input": str(files.source),
        "output": str(files.target),
        "lines": total,
        "kept": kept,
        "errors": tally.errors,
        "tokens": tally.tokens,
        "seed": output.seed,
    }


def show_generated(facts: dict[str, Any]) -> None:
    """Print the facts of `generate_lines` as a sentence."""
    print(f"{facts['output']}: {_lines(facts)}, {facts['tokens']:,} tokens, seed {facts['seed']}.")


def _lines(facts: dict[str, Any]) -> str:
    total, kept, errors = facts["lines"], facts["kept"], facts["errors"]
    before = ", finished already" if kept == total else f", {kept} of them from before" if kept else ""
    return f"{total} lines{before}, {errors or 'no'} errors"


def _told(source: Path, tally: Tally, advance: Callable[[str], None]) -> Callable[[Record], None]:
    """Return what takes each record: it counts it, names one that is an error, and moves the bar."""
    started, before = time.perf_counter(), tally.tokens

    def tell(record: Record) -> None:
        tally.add(record)
        if "error" in record:
            print(f"error: {source}, line {record['line']}: {record['error']}", file=sys.stderr)
        advance(f"{(tally.tokens - before) / (time.perf_counter() - started):.0f} tokens/s")

    return tell
