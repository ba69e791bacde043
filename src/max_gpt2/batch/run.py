"""Generate or score each line of a file; an interrupted run can be resumed."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from max_gpt2.batch.files import InputFile, Line, OutputFile, Record, run_identity
from max_gpt2.batch.records import check_fields, line_request, line_seed, line_tokens
from max_gpt2.errors import MaxGPT2Error, RequestError, StoppedError
from max_gpt2.generation import Engine, Generation, Loaded, ModelSource, Request, check_request
from max_gpt2.scoring import ScoreOptions, Scorer, perplexity, score_texts

#: Processes lines: yields one record per line, in order.
ProcessLines = Callable[[Iterable[Line]], Iterator[Record]]
Found = TypeVar("Found")


def attempt(line: Line, process: Callable[[Line], Found]) -> Found | MaxGPT2Error:
    """Return the result of processing a line, or the error."""
    try:
        if line.problem is not None:
            raise RequestError(line.problem)
        return process(line)
    except MaxGPT2Error as error:
        return error


def make_record(line: Line, result: Record | MaxGPT2Error) -> Record:
    """Return the record of a line: its number, its id if it has one, and the result or the error."""
    id_ = line.fields.get("id")
    return {
        "line": line.number,
        **({"id": id_} if isinstance(id_, str | int) else {}),
        **({"error": str(result)} if isinstance(result, MaxGPT2Error) else result),
    }


@dataclass
class Totals:
    """Totals over all records: errors, tokens and, for scores, the log probability and its token count."""

    errors: int = 0
    tokens: int = 0
    logprob: float = 0.0
    counted: int = 0

    def add(self, record: Record) -> None:
        """Add one record."""
        if "error" in record:
            self.errors += 1
            return
        self.tokens += len(record["tokens"])
        if "logprob" in record:
            self.logprob += math.nan if record["logprob"] is None else record["logprob"]  # JSON has no NaN
            self.counted += len(record["tokens"]) - 1

    @property
    def perplexity(self) -> float | None:
        """Perplexity over all scored tokens; None when there are none."""
        return perplexity(self.logprob, self.counted) if self.counted else None


#: Lines read ahead, as a multiple of the batch size, so that slots of finished sequences are refilled.
_READ_AHEAD = 8


def check_defaults(opened: ModelSource, defaults: Request) -> None:
    """Raise RequestError when the options of the run are invalid for every line."""
    check_request(opened.config, opened.tokenizer, replace(defaults, prompt_tokens=[0]))


def generation_options(defaults: Request) -> dict[str, Any]:
    """Return the options that determine the output; the seed is recorded separately."""
    options = asdict(defaults)
    options |= options.pop("sampling")
    return {name: value for name, value in options.items() if name not in ("prompt_tokens", "seed")}


def make_generator(engine: Engine, defaults: Request, seed: int, batch_size: int) -> ProcessLines:
    """Return a function that continues the prompts of lines, `batch_size` at a time; `seed` is the seed of the run."""

    def request(line: Line) -> Request:
        own_request = line_request(line.fields, defaults, engine.tokenizer, line_seed(seed, line.number))
        check_request(engine.model.config, engine.tokenizer, own_request)
        return own_request

    def process(lines: Iterable[Line]) -> Iterator[Record]:
        waiting = iter(lines)
        while some := list(islice(waiting, _READ_AHEAD * batch_size)):
            requests = [attempt(line, request) for line in some]
            generations = _generate(engine, [one for one in requests if isinstance(one, Request)], batch_size)
            for line, own_request in zip(some, requests, strict=True):
                if isinstance(own_request, MaxGPT2Error):
                    yield make_record(line, own_request)
                else:
                    found = next(generations)
                    yield make_record(
                        line, found if isinstance(found, MaxGPT2Error) else _record(line, own_request, found)
                    )

    return process


def _generate(engine: Engine, requests: list[Request], batch_size: int) -> Iterator[Generation | MaxGPT2Error]:
    """Run requests as a batch; after a failure, run the rest one by one."""
    done = 0
    try:
        for generation in engine.generate_all(requests, batch_size):
            done += 1
            yield generation
    except MaxGPT2Error:
        for request in requests[done:]:
            try:
                yield engine.generate(request)
            except MaxGPT2Error as error:
                yield error


def _record(line: Line, request: Request, generation: Generation) -> Record:
    return {
        **({"prompt": line.fields["prompt"]} if "prompt" in line.fields else {}),
        "prompt_tokens": generation.prompt_tokens,
        "tokens": generation.tokens,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "seed": generation.seed,
        **({} if request.logprobs is None else {"logprobs": [asdict(one) for one in generation.logprobs]}),
    }


def make_scorer(scorer: Scorer) -> ProcessLines:
    """Return a function that scores the text of each line."""

    def record(line: Line) -> Record:
        check_fields(line.fields, "text", {})
        tokens = line_tokens(line.fields, "text", scorer.tokenizer)
        (scored,) = score_texts(scorer, [tokens], ScoreOptions(bos=False))
        if isinstance(scored, RequestError):
            raise scored
        return {
            **({"text": line.fields["text"]} if "text" in line.fields else {}),
            "tokens": scored.tokens,
            "logprobs": scored.logprobs.tolist(),
            "logprob": scored.logprob,
            "perplexity": scored.perplexity,
        }

    def process(lines: Iterable[Line]) -> Iterator[Record]:
        for line in lines:
            yield make_record(line, attempt(line, record))

    return process


OnRecord = Callable[[Record], None]
#: Opens a progress display for (total lines, lines from an earlier run) that is called with each new record.
OpenProgress = Callable[[int, int], AbstractContextManager[OnRecord]]
Load = Callable[[], Loaded]
LoadScorer = Callable[[], Scorer]


@dataclass(frozen=True)
class BatchFiles:
    """Input and output paths of a run; `force` overwrites an output that belongs to a different run."""

    source: Path
    target: Path | None
    force: bool = False


@dataclass(frozen=True)
class BatchSummary:
    """Result of a run: line counts, totals and either the seed (generation) or the records (scoring, no output)."""

    files: BatchFiles
    lines: int
    resumed: int
    totals: Totals
    seed: int | None = None
    records: list[Record] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        values: dict[str, Any] = {
            "input": str(self.files.source),
            "output": str(self.files.target) if self.files.target else None,
            "lines": self.lines,
            "resumed": self.resumed,
            "errors": self.totals.errors,
            "tokens": self.totals.tokens,
        }
        if self.seed is not None:
            return values | {"seed": self.seed}
        values |= {"logprob": self.totals.logprob, "perplexity": self.totals.perplexity}
        return values if self.records is None else values | {"records": self.records}


def generate_file(
    opened: ModelSource,
    defaults: Request,
    files: BatchFiles,
    load: Load,
    progress: OpenProgress,
    *,
    batch_size: int,
) -> BatchSummary:
    """Continue each line that the output does not have yet, `batch_size` at a time.

    Raises MaxGPT2Error when the files or the options are invalid.
    """
    if files.target is None:
        raise RequestError("--input needs --output. Add --output FILE.")
    check_defaults(opened, defaults)
    source = InputFile.scan(files.source, "prompt")
    run, totals = run_identity("generate", source, opened, generation_options(defaults)), Totals()
    with OutputFile(files.target, run, seed=defaults.sampling.seed, force=files.force) as output:
        make = lambda: make_generator(load().engine, defaults, output.seed, batch_size)  # noqa: E731
        resumed = _fill(output, source, totals, make, progress)
        return BatchSummary(files, len(source.numbers), resumed, totals, seed=output.seed)


def score_file(opened: ModelSource, files: BatchFiles, load: LoadScorer, progress: OpenProgress) -> BatchSummary:
    """Score each line that the output does not have yet; without an output, return the records.

    Raises MaxGPT2Error when the files are invalid.
    """
    source, totals = InputFile.scan(files.source, "text"), Totals()
    total = len(source.numbers)
    if files.target is None:
        records = list[Record]()
        process = make_scorer(load())
        with progress(total, 0) as on_record:
            for record in process(source.lines(0)):
                totals.add(record)
                on_record(record)
                records.append(record)
        return BatchSummary(files, total, 0, totals, records=records)
    run = run_identity("score", source, opened, {})
    with OutputFile(files.target, run, seed=0, force=files.force) as output:
        resumed = _fill(output, source, totals, lambda: make_scorer(load()), progress)
    return BatchSummary(files, total, resumed, totals)


def _fill(
    output: OutputFile, source: InputFile, totals: Totals, make: Callable[[], ProcessLines], progress: OpenProgress
) -> int:
    """Write a record for each line that the output does not have yet; return the number of lines it had."""
    total = len(source.numbers)
    with report_interrupt(output, total):
        output.resume(source, totals.add)
        resumed = output.done
        if resumed < total:
            process = make()
            with progress(total, resumed) as on_record:
                output.begin()
                after = source.numbers[output.done - 1] if output.done else 0
                for record in process(source.lines(after)):
                    output.write(record)
                    totals.add(record)
                    on_record(record)
    return resumed


@contextmanager
def report_interrupt(output: OutputFile, total: int) -> Iterator[None]:
    """Raise StoppedError for Ctrl-C; its message has the number of written lines and how to resume."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"Stopped by Ctrl-C after {output.done} of {total} lines. They are in {output.path}; run the same "
            "command again to resume."
        ) from error
