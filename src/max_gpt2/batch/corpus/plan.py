"""The plan of a corpus run: what the output of each part depends on, and which rows it has."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from max_gpt2._files import json_text
from max_gpt2.batch.corpus.folder import Folder
from max_gpt2.batch.corpus.readers import ColumnNames
from max_gpt2.batch.corpus.scan import InputFile, Scan
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    import pyarrow

Format = Literal["parquet", "jsonl", "safetensors"]
#: The names of the plan and of the folder of entries begin with "_": readers of a folder of Parquet files ignore them.
PLAN = "_corpus.json"
MANIFEST = "_manifest"
_VERSION = 1
_REMEDY = "Choose another --output, or add --force to replace it."


@dataclass(frozen=True)
class Plan:
    """The plan of a run: everything that determines the bytes of its parts.

    Attributes:
        command: The command: score, perplexity or generate.
        options: The options that determine the results, as JSON values.
        model: The fingerprint of the model; see `max_gpt2.generation.fingerprint`.
        files: The files of the input, with their sizes, hashes and numbers of rows.
        columns: The names of the columns that are read.
        kept: The Arrow schema of the kept columns, serialized, in base 64.
        format: The format of the parts.
        part_rows: The number of rows of each part but the last.

    """

    command: str
    options: Mapping[str, Any]
    model: str
    files: tuple[InputFile, ...]
    columns: ColumnNames
    kept: str
    format: Format
    part_rows: int

    @classmethod
    def make(cls, scan: Scan, columns: ColumnNames, **others: Any) -> "Plan":
        """Return the plan for an input that has been read."""
        used = ColumnNames(columns.text, scan.id, columns.keep)
        kept = base64.b64encode(scan.kept.serialize().to_pybytes()).decode()
        return cls(files=scan.files, columns=used, kept=kept, **others)

    @property
    def rows(self) -> int:
        """The number of rows of the input."""
        return sum(file.rows for file in self.files)

    @property
    def parts(self) -> int:
        """The number of parts."""
        return -(-self.rows // self.part_rows)

    def range(self, part: int) -> tuple[int, int]:
        """Return the index of the first row of a part, and the index after its last one."""
        return part * self.part_rows, min((part + 1) * self.part_rows, self.rows)

    def name(self, part: int) -> str:
        """Return the name of the file of a part."""
        return f"part-{part:0{max(5, len(str(self.parts - 1)))}d}.{self.format}"

    def entry_name(self, part: int) -> str:
        """Return the path of the manifest entry of a part."""
        return f"{MANIFEST}/{self.name(part).partition('.')[0]}.json"

    def kept_schema(self) -> "pyarrow.Schema":
        """Return the Arrow schema of the kept columns."""
        import pyarrow

        return pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(self.kept)))

    def to_json(self) -> bytes:
        """Return the content of the file of the plan; equal plans have equal bytes."""
        return (json.dumps({"version": _VERSION, **asdict(self)}, indent=1, sort_keys=True) + "\n").encode()

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file of the plan: entries name the run that they belong to by it."""
        return hashlib.sha256(self.to_json()).hexdigest()


def read_plan(folder: Folder) -> Plan | None:
    """Return the plan of an output folder, None without one; raises RequestError if it is damaged."""
    content = folder.read(PLAN)
    if content is None:
        return None
    try:
        values = json.loads(content)
        if (version := values.pop("version")) != _VERSION:
            raise RequestError(
                f"{folder.location}/{PLAN} has version {version}, and this max-gpt2 reads version {_VERSION}. {_REMEDY}"
            )
        files = tuple(InputFile(**file) for file in values.pop("files"))
        columns = ColumnNames(**{**values["columns"], "keep": tuple(values.pop("columns")["keep"])})
        plan = Plan(files=files, columns=columns, **values)
        plan.range(plan.parts - 1)
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise RequestError(f"{folder.location}/{PLAN}, the plan of the run, is damaged. {_REMEDY}") from error
    return plan


def check_same(folder: Folder, recorded: Plan, now: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Raise RequestError, which names what differs, unless a recorded plan has the values `now`.

    `now` has all fields but those of the input, of which `sizes` are the files.
    """
    differences = [
        f"{name} ({_short(getattr(recorded, name))}, now {_short(value)})"
        for name, value in now.items()
        if name not in ("options", "model", "columns") and getattr(recorded, name) != value
    ]
    if recorded.model != now["model"]:
        differences.append("model")
    differences += _changed({**recorded.options, **_column_options(recorded.columns)}, _options_now(recorded, now))
    if differences:
        raise _other_run(folder, differences)
    before = {file.name: file.bytes for file in recorded.files}
    if before != sizes:
        names = sorted(name for name in {*before, *sizes} if before.get(name) != sizes.get(name))
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise _other_run(folder, [f"input ({names[0]}{more})"])


def _options_now(recorded: Plan, now: Mapping[str, Any]) -> dict[str, Any]:
    columns: ColumnNames = now["columns"]
    id_ = recorded.columns.id if columns.id is None else columns.id
    return {**now["options"], **_column_options(ColumnNames(columns.text, id_, columns.keep))}


def _column_options(columns: ColumnNames) -> dict[str, Any]:
    return {"text_column": columns.text, "id_column": columns.id, "keep_column": list(columns.keep)}


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} ({_short(before.get(name))}, now {_short(now.get(name))})" for name in names]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _other_run(folder: Folder, differences: Sequence[str]) -> RequestError:
    return RequestError(
        f"{folder.location} belongs to a run with a different {' and a different '.join(differences)}. {_REMEDY}"
    )


def parse_shard(value: str | None) -> tuple[int, int]:
    """Return K and N of "K/N", and 1, 1 without one; raises RequestError unless 1 <= K <= N."""
    if value is None:
        return 1, 1
    number, slash, count = value.partition("/")
    if slash and number.isascii() and number.isdecimal() and count.isascii() and count.isdecimal():
        shard = int(number), int(count)
        if 1 <= shard[0] <= shard[1]:
            return shard
    raise RequestError(f"--shard {value} is not K/N with K from 1 to N. The shards of 64 are 1/64, 2/64, ..., 64/64.")


def shard_parts(plan: Plan, shard: tuple[int, int]) -> range:
    """Return the parts of a shard (K, N): neighbors, so that few shards read each file of the input."""
    number, count = shard
    return range((number - 1) * plan.parts // count, number * plan.parts // count)
