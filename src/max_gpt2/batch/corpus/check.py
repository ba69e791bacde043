"""Inspect the output of a corpus run: how much of it is done, and whether every file and row is right."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from max_gpt2.batch.corpus.folder import Folder, open_folder
from max_gpt2.batch.corpus.manifest import Entry, read_entries
from max_gpt2.batch.corpus.plan import PLAN, Plan, read_plan, shard_parts
from max_gpt2.batch.corpus.tables import read_column
from max_gpt2.batch.parquet import require_pyarrow
from max_gpt2.errors import RequestError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ShardStatus:
    """The progress of a shard (or of the whole): parts and rows, all and done, and the totals of those done."""

    shard: str
    parts: int
    done: int
    rows: int
    rows_done: int
    tokens: int
    errors: int


@dataclass(frozen=True)
class Report:
    """The result of a verification: the number of parts and rows that are right, and the problems by file."""

    parts: int
    rows: int
    errors: int
    problems: dict[str, str] = field(default_factory=dict)


def open_output(output: str) -> tuple[Folder, Plan]:
    """Open the output folder of a run; raises RequestError if it is not one."""
    require_pyarrow(output)
    folder = open_folder(output)
    plan = read_plan(folder)
    if plan is None:
        raise RequestError(f"{output} has no {PLAN}, so it is not the output folder of a run. Check the path.")
    return folder, plan


def read_status(folder: Folder, plan: Plan, shards: int = 1) -> list[ShardStatus]:
    """Return the progress of each of `shards` shards."""
    entries = read_entries(folder, plan, range(plan.parts))
    return [_status(plan, entries, (number, shards)) for number in range(1, shards + 1)]


def _status(plan: Plan, entries: dict[int, Entry], shard: tuple[int, int]) -> ShardStatus:
    parts = shard_parts(plan, shard)
    done = [entries[part] for part in parts if part in entries]
    first, stop = (plan.range(parts[0])[0], plan.range(parts[-1])[1]) if parts else (0, 0)
    return ShardStatus(
        "{}/{}".format(*shard),
        len(parts),
        len(done),
        stop - first,
        sum(one.rows for one in done),
        sum(one.tokens for one in done),
        sum(one.errors for one in done),
    )


def verify_output(folder: Folder, plan: Plan, on_part: Callable[[], None] = lambda: None) -> Report:
    """Check that every part is done, has the checksum of its entry, and has each of its rows once, in order.

    The files of all parts together then have each row of the input once.
    """
    entries, problems = read_entries(folder, plan, range(plan.parts)), {}
    for part in range(plan.parts):
        entry = entries.get(part)
        problem = "is missing or not complete" if entry is None else _problem(folder, plan, entry)
        if problem:
            problems[plan.name(part)] = problem
        on_part()
    expected = {plan.name(part) for part in range(plan.parts)}
    for name in sorted(folder.sizes()):
        if name.startswith("part-") and name not in expected:
            problems[name] = "is not a part of this run"
    right = [one for part, one in entries.items() if plan.name(part) not in problems]
    return Report(len(right), sum(one.rows for one in right), sum(one.errors for one in right), problems)


def _problem(folder: Folder, plan: Plan, entry: Entry) -> str | None:
    """Return what is wrong with the file of a part, if anything."""
    name = plan.name(entry.part)
    try:
        with folder.open(name) as file:
            if _sha256(file) != entry.sha256:
                return f"has changed: its SHA-256 is not {entry.sha256}"
        with folder.open(name) as file:
            if not _has_rows(read_column(plan, file, "index"), *plan.range(entry.part)):
                return "does not have each of its rows once"
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"cannot be read ({error})"
    return None


def _has_rows(found: Iterator[Any], first: int, stop: int) -> bool:
    expected = first
    for index in found:
        if index != expected:
            return False
        expected += 1
    return expected == stop


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
