"""Process the parts of a corpus run in this process."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from max_gpt2.batch.corpus.folder import Claim, output_error
from max_gpt2.batch.corpus.job import CorpusRun
from max_gpt2.batch.corpus.manifest import Entry, read_entry, write_entry
from max_gpt2.batch.corpus.readers import DatasetReader, InputError, Row
from max_gpt2.batch.corpus.tables import PartWriter, open_writer, output_row
from max_gpt2.batch.corpus.tasks import ProcessRows

#: Called with each input row and its result, in order.
OnRow = Callable[[Row, Mapping[str, Any]], None]
#: Parts that are claimed at the same time, since rows are read ahead of the part that is being written.
_MOST_CLAIMS = 64


@dataclass
class Outcome:
    """The outcome of processing parts: those written, those that another process has claimed, and those that failed."""

    written: list[Entry] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, other: "Outcome") -> None:
        """Add what became of other parts."""
        self.written += other.written
        self.taken += other.taken
        self.failed |= other.failed


@dataclass
class _Part:
    """A claimed part; `failed` if its rows cannot be read."""

    number: int
    claim: Claim
    stop: int
    writer: PartWriter | None = None
    errors: int = 0
    tokens: int = 0
    failed: bool = False


class PartRunner:
    """Processes parts one after another, and packs the rows of neighboring parts into the same batches."""

    def __init__(self, run: CorpusRun, process: ProcessRows, on_row: OnRow = lambda _row, _result: None) -> None:
        self._run, self._process, self._on_row = run, process, on_row
        self._reader = DatasetReader(run.dataset, run.plan.files, run.plan.columns, run.plan.kept_schema())
        self._results = {*run.task.results().names, "error"}

    def run(self, parts: Iterable[int]) -> Outcome:
        """Write those of the parts, in ascending order, that are not done and that no other process has claimed.

        Raises OutputError when the output cannot be written. A part whose input cannot be read fails alone.
        """
        outcome, remaining = Outcome(), deque(parts)
        while remaining:
            claimed: dict[int, _Part] = {}
            try:
                self._write(remaining, claimed, outcome)
            finally:
                for part in claimed.values():
                    part.claim.abandon()
        return outcome

    def _write(self, remaining: deque[int], claimed: dict[int, _Part], outcome: Outcome) -> None:
        """Claim and write some parts: all that remain unless too many would be open."""
        waiting = deque[Row]()

        def rows() -> Iterator[Row]:
            for row in self._rows(remaining, claimed, outcome):
                waiting.append(row)
                yield row

        for result in self._process(rows()):
            row = waiting.popleft()
            part = claimed[row.index // self._run.plan.part_rows]
            if part.failed:
                continue
            self._add(part, row, result)
            if row.index + 1 == part.stop:
                outcome.written.append(self._finish(part))
                del claimed[part.number]

    def _rows(self, remaining: deque[int], claimed: dict[int, _Part], outcome: Outcome) -> Iterator[Row]:
        """Claim parts and yield their rows."""
        run = self._run
        while remaining and len(claimed) < _MOST_CLAIMS:
            number = remaining.popleft()
            claim = run.folder.claim(run.plan.name(number))
            if claim is None:
                outcome.taken.append(number)
                continue
            first, stop = run.plan.range(number)
            part = claimed[number] = _Part(number, claim, stop)
            if is_done(run, number):  # by a process that had the claim before
                claimed.pop(number).claim.abandon()
                continue
            try:
                yield from self._reader.rows(first, stop)
            except InputError as error:
                part.failed = True
                outcome.failed[number] = str(error)

    def _add(self, part: _Part, row: Row, result: Mapping[str, Any]) -> None:
        plan, location = self._run.plan, self._run.folder.location
        try:
            if part.writer is None:
                part.writer = open_writer(plan, part.claim.sink, self._run.schema)
            part.writer.write(output_row(plan, row, {name: result[name] for name in self._results & result.keys()}))
        except OSError as error:
            raise output_error(location, error) from error
        part.errors += "error" in result
        part.tokens += token_count(result)
        self._on_row(row, result)

    def _finish(self, part: _Part) -> Entry:
        """Write the entry of a part, then give its file its name.

        In this order, since the rename ends the claim: another process that takes it then finds the part done.
        """
        plan, folder, sink = self._run.plan, self._run.folder, part.claim.sink
        first, stop = plan.range(part.number)
        try:
            assert part.writer is not None  # every part has rows
            part.writer.close()
            entry = Entry(
                plan.digest, part.number, first, stop - first, part.errors, part.tokens, sink.size, sink.sha256
            )
            write_entry(folder, plan, entry)
            part.claim.commit()
        except OSError as error:
            raise output_error(folder.location, error) from error
        part.claim.abandon()
        return entry


def token_count(result: Mapping[str, Any]) -> int:
    """Return the number of tokens of a result, which has the number or the tokens; 0 for an error."""
    tokens = result.get("tokens", 0)
    return len(tokens) if isinstance(tokens, list) else int(tokens)


def is_done(run: CorpusRun, part: int) -> bool:
    """Return whether a part has an entry and a file of the size that it says."""
    entry = read_entry(run.folder, run.plan, part)
    return entry is not None and run.folder.size(run.plan.name(part)) == entry.size
