"""The manifest of an output folder: an entry for each part that is done."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from max_gpt2.batch.corpus.folder import Folder
from max_gpt2.batch.corpus.plan import MANIFEST, Plan

#: Entries that are read at the same time: on a remote file system, each takes a round trip.
_READERS = 16


@dataclass(frozen=True)
class Entry:
    """The manifest entry of a finished part.

    Attributes:
        run: The digest of the plan.
        part: The number of the part, from 0.
        first: The index of its first row.
        rows: The number of its rows.
        errors: The number of rows with an error.
        tokens: The number of tokens that were scored or generated.
        size: The size of its file in bytes.
        sha256: The SHA-256 of its file.

    """

    run: str
    part: int
    first: int
    rows: int
    errors: int
    tokens: int
    size: int
    sha256: str

    def to_json(self) -> bytes:
        """Return the content of the entry's file."""
        return (json.dumps(asdict(self)) + "\n").encode()


def write_entry(folder: Folder, plan: Plan, entry: Entry) -> None:
    """Write the entry of a part, which makes it done."""
    folder.write(plan.entry_name(entry.part), entry.to_json())


def read_entry(folder: Folder, plan: Plan, part: int) -> Entry | None:
    """Return the entry of a part; None if there is none, or it is damaged or belongs to another run."""
    content = folder.read(plan.entry_name(part))
    try:
        entry = Entry(**json.loads(content)) if content is not None else None
    except (ValueError, TypeError):
        return None
    return entry if entry is not None and (entry.run, entry.part) == (plan.digest, part) else None


def read_entries(folder: Folder, plan: Plan, parts: Iterable[int]) -> dict[int, Entry]:
    """Return the entries of those parts that are done: their files have the size that their entries say."""
    sizes, names = folder.sizes(), folder.sizes(MANIFEST)
    found = [
        part
        for part in parts
        if plan.name(part) in sizes and plan.entry_name(part).removeprefix(f"{MANIFEST}/") in names
    ]
    with ThreadPoolExecutor(_READERS) as pool:
        entries = pool.map(lambda part: read_entry(folder, plan, part), found)
        return {
            part: entry
            for part, entry in zip(found, entries, strict=True)
            if entry is not None and entry.size == sizes[plan.name(part)]
        }
