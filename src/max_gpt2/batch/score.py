"""Score the text of each line of a file."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from max_gpt2.batch.corpus.dataset import check_outside
from max_gpt2.batch.corpus.source import open_source
from max_gpt2.batch.files import OutputFile, Record, run_identity
from max_gpt2.batch.inputs import Line
from max_gpt2.batch.records import check_fields, line_source
from max_gpt2.batch.run import (
    BatchFiles,
    BatchSummary,
    OpenProgress,
    ProcessLines,
    Totals,
    attempt,
    fill,
    make_record,
    report_interrupt,
)
from max_gpt2.batch.tables import Schema, TableOutput, errors_file, table_writer
from max_gpt2.errors import MaxGPT2Error
from max_gpt2.generation import ModelSource
from max_gpt2.scoring import ScoreOptions, Scorer, perplexity, score_texts

LoadScorer = Callable[[], Scorer]
#: The most lines that wait for the line before them, so that a file of broken lines does not fill the memory.
_MOST_WAITING = 4096


@dataclass(frozen=True)
class ScoreSummary(BatchSummary):
    """Result of a scoring run; the `records` only if there is no output."""

    options: ScoreOptions
    is_table: bool = False
    records: list[Record] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values; perplexity and bits per byte are None if nothing was scored."""
        totals, options, target = self.totals, self.options, self.files.target
        nats = totals.logprob * options.log_of_base
        values = {
            **super().to_dict(),
            "counted": totals.counted,
            "base": options.base,
            "logprob": totals.logprob,
            "perplexity": perplexity(nats, totals.counted) if totals.counted else None,
            "bits_per_byte": -nats / math.log(2) / totals.bytes if totals.counted else None,
            "errors_file": str(errors_file(target)) if target and self.is_table and totals.errors else None,
        }
        return values if self.records is None else values | {"records": self.records}


def table_schema(options: ScoreOptions) -> Schema:
    """Return the columns of a table: the line, its id, and those of `Score.rows`, where a token's id is `token_id`."""
    columns: dict[str, type] = {"line": int, "id": str}
    if options.unit == "token":
        columns["token_id"] = int
    columns |= {"text": str, "start": int, "end": int}
    if options.unit != "token":
        columns |= {"first_token": int, "tokens": int, "counted": int}
    columns |= {"context": int, "logprob": float, "surprisal": float}
    if options.ranks:
        columns["rank"] = int
    if options.entropy:
        columns["entropy"] = float
    if options.top:
        columns["top"] = list
    return columns


def score_file(
    opened: ModelSource, options: ScoreOptions, files: BatchFiles, load: LoadScorer, progress: OpenProgress
) -> ScoreSummary:
    """Score each line that the output does not have yet; without an output, return the records.

    Raises MaxGPT2Error when the files or the options are invalid.
    """
    options = options.resolve(opened.config)
    write = table_writer(files.target) if files.target else None
    if files.target:
        check_outside(files.source, files.target)
    source, totals, resumed = open_source(files.source, "text", files.columns), Totals(), 0
    if files.target is None:
        records = list[Record]()
        process = make_scorer(load(), options)
        with progress(source.count, 0) as on_record:
            for record in process(source.lines()):
                totals.add(record)
                on_record(record)
                records.append(record)
        return ScoreSummary(files, source.count, resumed, totals, options, records=records)
    columns = {"text_column": files.columns.text, "id_column": files.columns.id}
    identity = run_identity("score", source, opened, asdict(options) | columns)
    make = lambda: make_scorer(load(), options)  # noqa: E731
    if write is None:
        with OutputFile(files.target, identity, seed=0, force=files.force) as output:
            resumed = fill(output, source, totals, make, progress)
    else:
        with TableOutput(files.target, identity, force=files.force) as table:
            if table.finished:
                totals, resumed = table.finished, source.count
            else:
                resumed = fill(table, source, totals, make, progress)
                with report_interrupt(table, source.count):
                    table.finish(write, table_schema(options), totals)
    return ScoreSummary(files, source.count, resumed, totals, options, is_table=write is not None)


def make_scorer(scorer: Scorer, options: ScoreOptions) -> ProcessLines:
    """Return a function that scores the text of each line."""

    def text(line: Line) -> str | list[int]:
        check_fields(line.fields, "text", {})
        return line_source(line.fields, "text")

    def process(lines: Iterable[Line]) -> Iterator[Record]:
        remaining = iter(lines)
        while (first := next(remaining, None)) is not None:
            yield from _score_some(scorer, options, chain([first], remaining), text)

    return process


def _score_some(
    scorer: Scorer, options: ScoreOptions, lines: Iterator[Line], text: Callable[[Line], str | list[int]]
) -> Iterator[Record]:
    """Yield the records of the next lines, in order: of all of them unless too many would wait."""
    waiting = deque[tuple[Line, MaxGPT2Error | None]]()

    def texts() -> Iterator[str | list[int]]:
        """Yield the texts of the next lines; the lines, also those without a text, wait for their results."""
        for line in lines:
            source = attempt(line, text)
            waiting.append((line, source if isinstance(source, MaxGPT2Error) else None))
            if not isinstance(source, MaxGPT2Error):
                yield source
            if len(waiting) >= _MOST_WAITING:
                return

    def broken() -> Iterator[Record]:
        """Yield the records of the next lines without a text."""
        while waiting and (error := waiting[0][1]):
            yield make_record(waiting.popleft()[0], error)

    for scored in score_texts(scorer, texts(), options):
        yield from broken()
        line, _ = waiting.popleft()
        yield make_record(line, scored if isinstance(scored, MaxGPT2Error) else scored.to_dict())
    yield from broken()
